"""The card of a data set: its numbers in text, its distributions in a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dwm_jax.data import dataset as data
from dwm_jax.data import notes
from dwm_jax.data.dataset import Dataset
from dwm_jax.runtime import files

# Policies look about 1 / (1 - gamma) steps ahead: 100, 333 and 1,000.
DISCOUNTS = (0.99, 0.997, 0.999)


def describe_dataset(
    name: str,
    dataset: Dataset,
    return_scale: float,
    discount: float,
    reference_scores: tuple[float, float] | None,
    environment: str,
    provenance: Mapping[str, Any],
) -> str:
    """The card, a dozen lines.

    Args:
      return_scale, discount: the divisor and the discount of the returns-to-go in `dataset`.
    """
    returns, lengths = data.episode_returns(dataset), episode_lengths(dataset)
    ends = dataset.terminated[dataset.last == np.arange(len(dataset.last))]
    labels = dataset.returns_to_go[data.transition_rows(dataset)]
    lines = {
        "steps": f"{lengths.sum():,} in {len(lengths):,} episodes",
        "episodes": f"{ends.sum():,} terminated, {(~ends).sum():,} truncated",
        "lengths": describe_range(lengths, "{:,.0f}"),
        "returns": describe_range(returns, "{:,.1f}"),
        "observations": f"{dataset.observations.shape[1]}",
        "actions": f"{dataset.actions.shape[1]}",
        "return-to-go": f"discount {discount:g}, in units of {return_scale:,.1f}: {describe_range(labels, '{:.2f}')}",
        "foresight": describe_foresight(dataset),
        "reference scores": "none; runs report raw returns",
        "environment": environment,
    }
    if reference_scores is not None:
        low, high = reference_scores
        score = (returns.mean() - low) / (high - low)
        lines["reference scores"] = (
            f"{low:g} to {high:g}; the data's mean episode scores {score:.3f} ({100 * score:.1f})"
        )
    for source in provenance.get("sources", []):
        lines[f"source {source['file']}"] = f"{source['bytes']:,} bytes, SHA-256 {source['sha256']}"
    width = max(len(key) for key in lines)
    written = [f"  {key:<{width}}  {value}" for key, value in lines.items()]
    return "\n".join([name, *written, *(f"  {'note':<{width}}  {note}" for note in notes.collect_notes(provenance))])


def describe_foresight(dataset: Dataset) -> str:
    """How much of an episode's return its start shows to a policy that discounts.

    The correlation over episodes of sum_t gamma^t r_t with sum_t r_t. Where it is low, whether an episode will be good
    or bad hardly changes what its start is worth at that discount.
    """
    returns = data.episode_returns(dataset)
    found = [
        f"{correlation(data.episode_returns(dataset, gamma), returns):.2f} at gamma = {gamma:g}" for gamma in DISCOUNTS
    ]
    return f"correlation of an episode's discounted return with its return: {', '.join(found)}"


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's; NaN where one of them does not vary."""
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else np.nan


def describe_range(values: np.ndarray, form: str) -> str:
    """Mean and range of some numbers."""
    mean, low, median, high = (
        form.format(value) for value in (values.mean(), values.min(), np.median(values), values.max())
    )
    return f"mean {mean}, median {median}, from {low} to {high}"


def episode_lengths(dataset: Dataset) -> np.ndarray:
    """Steps of each episode, shape (episodes,)."""
    last = np.unique(dataset.last)
    return np.diff(last, prepend=-1) - 1


def draw_histograms(
    path: Path, name: str, dataset: Dataset, return_scale: float, reference_scores: tuple[float, float] | None
) -> None:
    """Saves histograms of episode returns, episode lengths and return-to-go labels as PNG."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    returns_axes, lengths_axes, labels_axes = figure.subplots(1, 3)
    returns, lengths = data.episode_returns(dataset), episode_lengths(dataset)

    _histogram(returns_axes, returns, "return of an episode", "episodes")
    low, high = returns.min(), returns.max()
    for reference, style in zip(reference_scores or (), (":", "--"), strict=False):
        # One far beyond the data would squeeze the histogram into a corner; it is in the card's text.
        if low - (high - low) <= reference <= high + (high - low):
            returns_axes.axvline(reference, color="tab:red", linestyle=style, label=f"reference {reference:g}")
    if returns_axes.get_legend_handles_labels()[0]:
        returns_axes.legend(frameon=False)

    _histogram(lengths_axes, lengths, "length of an episode, steps", "episodes")
    labels = dataset.returns_to_go[data.transition_rows(dataset)]
    _histogram(labels_axes, labels, f"return-to-go / {return_scale:,.0f}", "steps")
    figure.suptitle(f"{name}: {lengths.sum():,} steps in {len(lengths):,} episodes")
    files.write_from(path, lambda file: figure.savefig(file, dpi=130))


def _histogram(axes: Axes, values: np.ndarray, label: str, counted: str) -> None:
    low, high = float(values.min()), float(values.max())
    # Bars of equal values would have no width.
    bins = np.linspace(low, high, 51) if high > low else np.array([low - 0.5, low + 0.5])
    axes.hist(values, bins=bins.tolist(), color="tab:blue", alpha=0.8)
    if high == low:
        axes.set_xlim(low - 5, low + 5)
    axes.set_xlabel(label)
    axes.set_ylabel(counted)
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.spines[["top", "right"]].set_visible(False)
