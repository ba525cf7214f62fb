"""The pictures of a run. Data in, a file out (PNG or SVG, by its name); nothing is computed here."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from matplotlib.ticker import MaxNLocator

from dwm_jax.data.maze2d import GOAL_RADIUS, Maze
from dwm_jax.results.diagnostics import Calibration, PredictionError
from dwm_jax.results.scores import CriticCheck, Curve
from dwm_jax.runtime import files

# Inches for the titles of a picture and its panels, and of a picture alone, where margins are by hand.
ABOVE, ABOVE_UNTITLED = 0.75, 0.45


def draw_learning_curves(
    path: Path, task: str, curves: Mapping[str, Sequence[Curve]], references: Sequence[Curve] = ()
) -> None:
    """Mean score against updates, with a band of one standard deviation over seeds.

    Args:
      curves: by the title of their panel; "" for none.
      references: what learns no policy; its last score is a broken line in every panel.
    """
    below = 0.6 + 0.25 * -(-max(len(shown) + len(references) for shown in curves.values()) // 2)
    above = ABOVE if any(curves) else ABOVE_UNTITLED
    size = (7, 3.1 + below) if len(curves) == 1 else (4.2 * len(curves), 5.2)
    figure = Figure(size)
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)
    for axes, (title, shown) in zip(panels[0], curves.items(), strict=True):
        for curve in shown:
            mean, std = curve.scores.mean(axis=1), curve.scores.std(axis=1)
            (line,) = axes.plot(curve.steps, mean, marker="o", markersize=3, label=curve.method)
            axes.fill_between(curve.steps, mean - std, mean + std, alpha=0.15, color=line.get_color(), linewidth=0)
        for reference, style in zip(references, cycle(("--", ":", "-.")), strict=False):
            axes.axhline(reference.scores[-1].mean(), color="black", linestyle=style, label=reference.method)
        axes.set_title(title, y=1)
        axes.set_xlabel("updates")
        axes.spines[["top", "right"]].set_visible(False)
        drop = -0.5 / (size[1] - below - above)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, drop), ncols=2, frameon=False, fontsize="small")
    _set_margins(figure, below, above)
    is_raw = next(iter(curves.values()))[0].is_raw
    panels[0, 0].set_ylabel("return" if is_raw else "normalised score (0-1)")
    figure.suptitle(task)
    _save(figure, path)


def draw_maze_trajectories(
    path: Path, maze: Maze, recorded_XY: np.ndarray, imagined_XY: np.ndarray, title: str
) -> None:
    """Recorded and imagined positions from the same starts, in the maze with its walls and its goal.

    Args:
      recorded_XY, imagined_XY: positions, shape (n, H + 1, 2).
    """
    figure = Figure((10, 5), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, name, lines in zip(panels, ("recorded", "imagined"), (recorded_XY, imagined_XY), strict=True):
        draw_maze(axes, maze)
        axes.add_collection(LineCollection(list(lines), colors="tab:blue", linewidths=1.2, alpha=0.8))
        axes.scatter(*lines[:, 0].T, s=6, color="black", zorder=3, label="start")
        axes.set_title(name)
        axes.set_aspect("equal")
        axes.autoscale_view()
    panels[0].legend(loc="lower left", frameon=False)
    figure.suptitle(title)
    _save(figure, path)


def draw_prediction_errors(path: Path, errors: Mapping[str, PredictionError], title: str) -> None:
    """State and reward error by step of the rollout, one line per world model."""
    figure = Figure((10, 5), layout="constrained")
    states, rewards = figure.subplots(1, 2)
    for name, error in errors.items():
        steps = np.arange(1, len(error.observation) + 1)
        states.plot(steps, error.observation, marker="o", markersize=3, label=name)
        rewards.plot(steps, error.reward, marker="o", markersize=3, label=name)
    states.set_ylabel("squared error, standardised state")
    rewards.set_ylabel("squared error, reward")
    for axes in (states, rewards):
        axes.set_xlabel("step of the rollout")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if any((np.asarray(line.get_ydata()) > 0).any() for line in axes.get_lines()):  # a logarithm has no other place
            axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
    _legend_below(figure, states)
    figure.suptitle(title)
    _save(figure, path)


def draw_calibrations(
    path: Path,
    own: Mapping[str, Calibration],
    asked: Mapping[str, Calibration],
    title: str,
    return_scale: float | None = None,
) -> None:
    """Imagined return of H steps against the segments' labels, beside what was recorded under them.

    Args:
      own, asked: asked for the labels themselves, and for what the policies ask; an empty one is not shown.
      return_scale: what all of it is in units of; None where it is not known.
    """
    units = f"in units of {'the return scale' if return_scale is None else format(return_scale, ',.4g')}"
    shown = [
        ("asked for the segment's own", "return-to-go that was asked (the segment's own)", own),
        ("asked for what the policies ask", "the segment's own return-to-go, which was not asked", asked),
    ]
    shown = [panel for panel in shown if panel[-1]]
    figure = Figure((5 * len(shown), 5))
    panels = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (subtitle, x_label, calibrations) in zip(panels, shown, strict=True):
        recorded = next(iter(calibrations.values()))
        axes.plot(recorded.requested, recorded.recorded, color="black", linewidth=2, label="recorded")
        for name, calibration in calibrations.items():
            axes.plot(calibration.requested, calibration.imagined, marker="o", markersize=3, label=name)
        axes.set_xlabel(f"{x_label}\n({units})")
        axes.set_title(subtitle, y=1)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"discounted reward of H steps\n({units})")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=2, frameon=False, fontsize="small")
    _set_margins(figure, 0.9 + 0.25 * -(-len(labels) // 2), left=1.05)
    figure.suptitle(title)
    _save(figure, path)


def draw_by_step(path: Path, panels: Mapping[str, Mapping[str, np.ndarray]], title: str) -> None:
    """One panel per quantity, one line per world model, against the step of the rollout.

    Args:
      panels: quantity -> label -> values by step, (H,).
    """
    figure = Figure((4.2 * len(panels), 4.6), layout="constrained")
    labels = list(dict.fromkeys(label for lines in panels.values() for label in lines))
    colors = {label: f"C{index % 10}" for index, label in enumerate(labels)}
    handles: dict[str, Any] = {}
    for axes, (quantity, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for label, values_H in lines.items():
            steps = np.arange(1, len(values_H) + 1)
            (handles[label],) = axes.plot(steps, values_H, marker="o", markersize=3, color=colors[label], label=label)
        axes.set_title(quantity)
        axes.set_xlabel("step of the rollout")
        shown = [0.0, *(value for values_H in lines.values() for value in values_H if np.isfinite(value))]
        low, high = min(shown), max(shown)
        # Lines are often at 0 or 1 throughout; at the edge they would be cut in half.
        margin = 0.05 * ((high - low) or 1)
        axes.set_ylim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    figure.suptitle(title)
    _save(figure, path)


def draw_critics(path: Path, task: str, checks: Sequence[CriticCheck], mean_label: float) -> None:
    """Critics' value of the evaluations' initial states, and the discounted return that followed; one panel a method.

    Args:
      mean_label: the data's mean return-to-go, a dotted line; raw units like the others.
    """
    # One panel's width would cut off title and legend.
    figure = Figure((max(5.4, 3.4 * min(len(checks), 4)), 3.4 * -(-len(checks) // 4) + 0.6), layout="constrained")
    panels = figure.subplots(-(-len(checks) // 4), min(len(checks), 4), sharex=True, squeeze=False).ravel()
    for axes, check in zip(panels, checks, strict=False):
        axes.plot(
            check.steps, check.values, color="C3", marker="o", markersize=3, label="critic value at initial states"
        )
        axes.plot(check.steps, check.returns, color="C0", marker="o", markersize=3, label="discounted return")
        axes.axhline(mean_label, color="0.5", linestyle=":", label="mean return-to-go of the data")
        axes.set_title(check.method)
        axes.set_xlabel("updates")
        axes.tick_params(labelbottom=True)  # below it there may be no panel
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_visible(axes.has_data())
    for axes in panels[::4]:
        axes.set_ylabel("discounted return (raw units)")
    _legend_below(figure, panels[0])
    figure.suptitle(f"{task}: critic values against measured returns")
    _save(figure, path)


def draw_sampling_times(path: Path, seconds: Mapping[str, Mapping[int, float]], title: str) -> None:
    """Time of a batch of trajectories against their horizon, one line per world model."""
    figure, axes = _figure(title)
    for name, by_horizon in seconds.items():
        milliseconds = 1000 * np.array(list(by_horizon.values()))
        axes.plot(list(by_horizon), milliseconds, marker="o", markersize=3, label=name)
    axes.set_xlabel("horizon H")
    axes.set_ylabel("milliseconds")
    axes.set_ylim(0, 1050 * max(one for by_horizon in seconds.values() for one in by_horizon.values()))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_below(figure, axes)
    _save(figure, path)


def draw_returns_to_go(path: Path, task: str, labels: np.ndarray, evaluation_value: float) -> None:
    """Histogram of every recorded step's label, with the return-to-go asked for: the largest, under "reachable"."""
    figure, axes = _figure(f"{task}: return-to-go of all recorded steps")
    # One outline: sixty bars take longer to draw than all the rest.
    axes.hist(labels, bins=60, log=True, histtype="stepfilled", color="tab:blue", alpha=0.8)
    axes.axvline(evaluation_value, color="tab:red", label=f"evaluation: {evaluation_value:g}")
    axes.set_xlabel("scaled return-to-go")
    axes.set_ylabel("steps")
    axes.legend(frameon=False)
    _save(figure, path)


def draw_maze(axes: Axes, maze: Maze) -> None:
    """Walls and goal."""
    for row, column in np.argwhere(np.array(maze.cells) == 1):
        corner = maze.xy((int(row), int(column))) - 0.5
        axes.add_patch(Rectangle((corner[0], corner[1]), 1, 1, color="0.75", linewidth=0))
    axes.add_patch(Circle(tuple(maze.point(maze.goal_cell)), GOAL_RADIUS, color="tab:green", alpha=0.25))


def _set_margins(figure: Figure, below: float, above: float = ABOVE, left: float = 0.85) -> None:
    """Margins in inches: a layout engine draws everything twice to find them, and a report has hundreds of pictures."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(left / width, below / height, 1 - 0.15 / width, 1 - above / height, wspace=0.12)


def _legend_below(figure: Figure, axes: Axes) -> None:
    """Many lines with long names: a legend among them would hide what they show."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize="small")


def _figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure((7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    # No date in it: the same picture is the same file.
    metadata = {"Date": None} if path.suffix == ".svg" else None
    files.write_from(path, lambda file: figure.savefig(file, format=path.suffix[1:], dpi=130, metadata=metadata))
