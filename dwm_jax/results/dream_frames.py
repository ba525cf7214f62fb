"""A dream as frames: a recorded episode and an imagined one from the same start, side by side. Needs no display.

A maze is drawn with the ball and its way; elsewhere the simulator draws the states where it can be set to them
(`find_simulator_scene`), and where it cannot the entries of the states are lines that grow with time.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dwm_jax.data.maze2d import Maze
from dwm_jax.results.pictures import draw_maze
from dwm_jax.types import Episode

# At most so many frames of steps, so that a film stays small; then the last one stands still.
MAX_FRAMES, STANDING_FRAMES = 150, 30
FPS = 20
# Entries of a state that are drawn as lines.
MAX_LINES = 12
# Entries of an observation may be rounded or cast to float32 on their way; in the simulator's units.
SAME_STATE = 1e-5


class Dream(NamedTuple):
    """A recorded episode, and what a world model imagined from its first state."""

    recorded: Episode
    imagined: Episode  # its actions are the recorded ones that the model was given
    chunk: int  # steps imagined at once; the next ones begin where they end
    title: str  # the task and the episode
    told: str  # a sentence or two: what the world model was given


# A picture of one moment: shows the states after so many steps.
Show = Callable[[int], None]
# Fills a figure that is to show a dream.
Scene = Callable[[Figure, Dream], Show]


def draw_frames(dream: Dream, scene: Scene) -> Iterator[np.ndarray]:
    """The film of a dream, frame by frame: uint8 (height, width, 3)."""
    figure = Figure((7.2, 4.6), dpi=100, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    figure.suptitle(dream.title, fontsize="medium")
    clock = figure.supxlabel(" ", fontsize="small")
    show = scene(figure, dream)
    longest = max(len(dream.recorded.actions), len(dream.imagined.actions))
    steps = [*range(0, longest, -(-longest // MAX_FRAMES)), longest]
    for step in steps:
        show(step)
        clock.set_text(f"{dream.told}\nStep {step} of {longest}.")
        canvas.draw()
        figure.set_layout_engine("none")  # nothing moves from frame to frame but what is shown
        frame = np.asarray(canvas.buffer_rgba())[..., :3].copy()
        yield from [frame] * (1 if step < longest else STANDING_FRAMES)


def make_maze_scene(maze: Maze) -> Scene:
    """The ball in the maze, with the way it went, the goal, and on the imagined way a dot wherever a chunk begins."""

    def start(figure: Figure, dream: Dream) -> Show:
        panels = _side_by_side(figure)
        balls, ways = [], []
        for axes in panels:
            draw_maze(axes, maze)
            centres = np.array([maze.xy(cell) for cell in maze.free_cells])
            axes.set_xlim(centres[:, 0].min() - 0.8, centres[:, 0].max() + 0.8)
            axes.set_ylim(centres[:, 1].min() - 0.8, centres[:, 1].max() + 0.8)
            x, y = maze.point(maze.goal_cell)
            axes.text(x, y, "goal", color="tab:green", ha="center", va="center")
            axes.set_aspect("equal")
            axes.axis("off")
            ways.append(axes.plot([], [], color="tab:blue", linewidth=1.5, alpha=0.7)[0])
            balls.append(axes.plot([], [], "o", color="tab:orange", markersize=11)[0])
        (joints,) = panels[1].plot([], [], ".", color="black", markersize=4, label="asked again")
        panels[1].legend(loc="lower left", fontsize="small", handletextpad=0)

        def show(step: int) -> None:
            for axes, way, ball, (name, episode) in zip(panels, ways, balls, _both(dream), strict=True):
                until = min(step, len(episode.actions))
                way.set_data(*episode.observations[: until + 1, :2].T)
                ball.set_data(*episode.observations[until : until + 1, :2].T)
                axes.set_title(_heading(name, episode, until), fontsize="medium")
            joints.set_data(*dream.imagined.observations[: step + 1 : dream.chunk, :2].T)

        return show

    return start


def make_simulator_scene(draw: Callable[[np.ndarray], np.ndarray]) -> Scene:
    """The simulator's own picture of the states.

    Args:
      draw: the states so far (n, O) -> a picture of the last one.
    """

    def start(figure: Figure, dream: Dream) -> Show:
        panels = _side_by_side(figure)
        first = draw(dream.recorded.observations[:1])
        images = [axes.imshow(first) for axes in panels]
        for axes in panels:
            axes.axis("off")

        def show(step: int) -> None:
            for axes, image, (name, episode) in zip(panels, images, _both(dream), strict=True):
                until = min(step, len(episode.actions))
                image.set_data(draw(episode.observations[: until + 1]))
                axes.set_title(_heading(name, episode, until), fontsize="medium")

        return show

    return start


def draw_lines(figure: Figure, dream: Dream) -> Show:
    """One panel per entry of the state, recorded and imagined in it, growing with time."""
    size = dream.recorded.observations.shape[1]
    shown = min(size, MAX_LINES)
    columns = min(4, shown)
    panels = figure.subplots(-(-shown // columns), columns, sharex=True, squeeze=False).ravel()
    lines = []
    for entry, axes in enumerate(panels):
        axes.set_visible(entry < shown)
        axes.tick_params(labelsize="x-small")
        axes.spines[["top", "right"]].set_visible(False)
        if entry < shown:
            axes.set_title(f"entry {entry + 1} of {size}", fontsize="x-small")
            both = np.concatenate([episode.observations[:, entry] for _, episode in _both(dream)])
            axes.set_ylim(both.min() - 0.05 * np.ptp(both) - 1e-6, both.max() + 0.05 * np.ptp(both) + 1e-6)
            axes.set_xlim(0, max(len(episode.actions) for _, episode in _both(dream)))
            colors = ("black", "tab:orange")
            lines.append([axes.plot([], [], color=color, linewidth=1)[0] for color in colors])

    def show(step: int) -> None:
        for entry, pair in enumerate(lines):
            for line, (_, episode) in zip(pair, _both(dream), strict=True):
                until = min(step, len(episode.actions))
                line.set_data(np.arange(until + 1), episode.observations[: until + 1, entry])
        headings = [_heading(name, episode, min(step, len(episode.actions))) for name, episode in _both(dream)]
        figure.suptitle(f"{dream.title}\nblack: {headings[0]}; orange: {headings[1]}", fontsize="medium")

    return show


def find_simulator_scene(env: gym.Env[Any, Any]) -> Scene | None:
    """How a MuJoCo environment draws states that it is set to; None where observations do not tell a whole state.

    They do where they are Gymnasium's (positions, velocities) without the first one or two positions: where a robot
    is on its floor. That is integrated from the velocity, from 0 on. Whether they are is tried on a few steps.
    """
    simulator: Any = env.unwrapped
    if not all(hasattr(simulator, name) for name in ("model", "data", "set_state", "dt")):
        return None
    num_positions, num_velocities = simulator.model.nq, simulator.model.nv
    observation, _ = env.reset(seed=0)
    hidden = num_positions + num_velocities - len(observation)
    if hidden not in (0, 1, 2):
        return None
    env.action_space.seed(0)
    for _ in range(3):
        state = np.concatenate([simulator.data.qpos, simulator.data.qvel])
        if not np.allclose(observation, state[hidden:], atol=SAME_STATE):
            return None
        observation = env.step(env.action_space.sample())[0]

    def draw(observations: np.ndarray) -> np.ndarray:
        velocities = observations[:, num_positions - hidden :]
        place = (simulator.dt * velocities[:-1, :hidden]).sum(axis=0)
        positions = np.concatenate([place, observations[-1, : num_positions - hidden]])
        simulator.set_state(positions, velocities[-1])
        return np.asarray(env.render())

    return make_simulator_scene(draw)


def _side_by_side(figure: Figure) -> list[Axes]:
    return list(figure.subplots(1, 2, squeeze=False)[0])


def _both(dream: Dream) -> list[tuple[str, Episode]]:
    return [("recorded", dream.recorded), ("imagined", dream.imagined)]


def _heading(name: str, episode: Episode, until: int) -> str:
    """What is shown, its return so far, and whether it is over."""
    ended = until == len(episode.actions) and episode.terminated
    return f"{name}: return {episode.rewards[:until].sum():.1f}{', ended' if ended else ''}"
