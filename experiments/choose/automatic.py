"""Horizon and return-to-go for a data set, from the data and its world model alone.

The horizon is the largest at which the diffusion world model can still be trusted on held-out segments: at this and
every earlier step the squared error of its states is at most `LARGEST_ERROR` of the data's variance, and its draws are
spread over what they leave unexplained by a factor within `SPREAD` (`distributions.spread_over_error`; 1 is right).
Where the error is at most `NEGLIGIBLE_ERROR`, next to nothing is left unexplained, and the factor is not looked at.

The return-to-go is the quantile `LEVEL` of the recorded labels: high, but reached by one recorded pair in ten, so that
the world model has seen what it is asked for.

The bound of the error is the recommended recipe's, whose runs look at it themselves (`policy.largest_error`). The other
bounds are a choice, not a measurement: no scores went into them.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from dwm_jax.data.dataset import transition_rows
from dwm_jax.data.recording import Recording
from dwm_jax.recipes import RECOMMENDED
from dwm_jax.results.scores import remark_on_origin
from dwm_jax.runtime import files

# A state error of 1 is that of always answering the mean; of a third, two thirds of the variance are foretold.
LARGEST_ERROR = RECOMMENDED.largest_error
NEGLIGIBLE_ERROR = 0.01
SPREAD = (0.5, 2.0)
LEVEL = 0.9
MODEL = "dwm"


class Measured(NamedTuple):
    """What the diagnostics of a run say of its diffusion world model, by step h = 1 .. H; held-out segments."""

    state_error: np.ndarray  # (H,) in units of the data's variance
    spread: np.ndarray  # (H,) over error
    # Of the tenth of the segments with the highest labels: mean label, and return of H steps imagined and recorded,
    # scaled.
    highest: tuple[float, float, float]

    @property
    def is_trusted(self) -> np.ndarray:
        """By step, whether error and spread are within the bounds: (H,) bool."""
        is_spread = (self.spread >= SPREAD[0]) & (self.spread <= SPREAD[1])
        return (self.state_error <= LARGEST_ERROR) & (is_spread | (self.state_error <= NEGLIGIBLE_ERROR))

    @property
    def horizon(self) -> int:
        """The number of trusted steps before the first that is not; 0 where that is the first."""
        return int(np.cumprod(self.is_trusted).sum())


def read_measured(folder: Path) -> Measured | None:
    """What a run measured; None where it has measured no diffusion world model.

    Raises:
      ValueError: its diagnostics.json is not in order.
    """
    try:
        found = files.read_json(folder / "diagnostics.json")
    except FileNotFoundError:
        return None
    try:
        if MODEL not in found.get("prediction_error", ()):  # which is not there where no world model was trained
            return None
        state_error = np.array(found["prediction_error"][MODEL]["observation"], float)
        spread = np.array(found["spread_over_error"][MODEL], float)
        requested, imagined, recorded = (
            float(found["calibration"][MODEL][name][-1]) for name in ("requested", "imagined", "recorded")
        )
        if state_error.ndim != 1 or state_error.shape != spread.shape:
            raise ValueError("errors and spreads are not one number each for every step")
    except KeyError as error:
        raise ValueError(f"{folder}/diagnostics.json has no {error} of the world model: an older version's") from error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise files.make_unreadable_error(folder / "diagnostics.json", error) from error
    return Measured(state_error, spread, (requested, imagined, recorded))


def labels_of(recording: Recording) -> np.ndarray:
    """The returns-to-go of all recorded pairs, scaled: (P,)."""
    return recording.dataset.returns_to_go[transition_rows(recording.dataset)]


def horizon_table(measured: Measured) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table that the horizon is read from."""
    with_all_earlier = np.logical_and.accumulate(measured.is_trusted)
    columns = zip(measured.state_error, measured.spread, with_all_earlier, strict=True)
    rows = [
        [str(step), f"{error:.3g}", f"{spread:.3g}", "yes" if trusted else "no"]
        for step, (error, spread, trusted) in enumerate(columns, start=1)
    ]
    return ["step", "state error", "spread over error", "trusted"], rows


def explain_overrides(measured: Measured, labels_P: np.ndarray, origin: str) -> str:
    """The overrides for the train command, and how the numbers led there.

    Args:
      labels_P: `labels_of` the recording.
      origin: of the segments that were measured on (`Recording.measured_on`).
    """
    return_to_go = round(float(np.quantile(labels_P, LEVEL)), 2)
    horizon = max(1, measured.horizon)
    label, imagined, recorded = measured.highest
    return "\n".join(
        [
            f"Trusted: state error at most {LARGEST_ERROR:g} of the data's variance, spread over error within "
            f"{SPREAD[0]:g} and {SPREAD[1]:g} unless the error is at most {NEGLIGIBLE_ERROR:g}, at this and every "
            f"earlier step, on {origin} segments{remark_on_origin(origin)}. {how_far(measured)}",
            f"Labels: the {LEVEL:g} quantile is {return_to_go:g}, the mean {labels_P.mean():.2f}, the largest "
            f"{labels_P.max():.2f}. Asked for the labels of the highest tenth ({label:.2f} on average), it imagines a "
            f"return of {imagined:.3g} in {len(measured.state_error)} steps; recorded {recorded:.3g}.",
            "",
            f"    --config.policy.horizon={horizon} --config.policy.return_to_go={return_to_go:g}",
        ]
    )


def how_far(measured: Measured) -> str:
    """What the measurements say of the horizon beyond the number."""
    if measured.horizon == 0:
        return "Not even the first step is: train the world model longer, or larger; H = 1 is the least there is."
    if measured.horizon == len(measured.state_error):
        return f"All {measured.horizon} steps that the run measured are; longer ones were not looked at."
    return f"The first {measured.horizon} of {len(measured.state_error)} are."
