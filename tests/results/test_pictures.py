"""Pictures of a run: what their axes say and show."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from dwm_jax.results import pictures
from dwm_jax.results.diagnostics import Calibration, PredictionError
from dwm_jax.results.scores import CriticCheck


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, in the place of their files."""
    figures: list[Figure] = []
    monkeypatch.setattr(pictures, "_save", lambda figure, path: figures.append(figure))
    return figures


def test_lines_at_the_largest_and_least_value_lie_inside_the_axis(drawn: list[Figure]) -> None:
    panels = {
        "slope": {"TD3+BC in dwm": np.array([1.0, 0.98, 0.97]), "IQL in dwm": np.ones(3)},
        "found": {"dwm": np.array([np.nan, 0.0, 0.0])},
        "below": {"dwm": np.array([-1.0, 1.0, 1.0])},
        "diverged": {"dwm": np.full(3, np.nan)},
    }
    pictures.draw_by_step(Path("imagined_states.png"), panels, "some-task")
    slope, found, below, diverged = (axes.get_ylim() for axes in drawn[0].axes)
    # A twentieth of the span from 0 to the largest value, on either side.
    assert slope == pytest.approx((-0.05, 1.05))
    assert found[0] < 0 < found[1]
    assert below == pytest.approx((-1.1, 1.1))
    assert np.isfinite(diverged).all()


def test_rows_of_critics_say_what_is_on_their_axis(drawn: list[Figure]) -> None:
    check = CriticCheck("TD3+BC", np.array([1, 2]), np.array([3.0, 4.0]), np.array([2.0, 2.0]))
    pictures.draw_critics(Path("critics.png"), "some-task", [check] * 5, 1.0)
    label = "discounted return (raw units)"
    panels = drawn[0].axes[:5]
    assert [axes.get_ylabel() for axes in panels] == [label, "", "", "", label]
    # Below the second panel there is none.
    assert panels[1].xaxis.get_tick_params()["labelbottom"]


@pytest.mark.parametrize(("scale", "units"), [(400.0, "in units of 400"), (None, "in units of the return scale")])
def test_calibrations_say_their_units_and_whose_return_to_go_was_asked(
    drawn: list[Figure], scale: float | None, units: str
) -> None:
    found = {"dwm": Calibration(np.arange(3.0), np.arange(3.0), np.arange(3.0))}
    pictures.draw_calibrations(Path("calibration.png"), found, found, "some-task", scale)
    own, policies = drawn[0].axes
    assert own.get_ylabel() == f"discounted reward of H steps\n({units})"
    assert own.get_xlabel() == f"return-to-go that was asked (the segment's own)\n({units})"
    assert policies.get_xlabel() == f"the segment's own return-to-go, which was not asked\n({units})"


def test_times_of_sampling_are_milliseconds_on_an_axis_from_0(drawn: list[Figure]) -> None:
    pictures.draw_sampling_times(
        Path("sampling_time.png"), {"dwm": {1: 0.35, 3: 0.34}, "one_step": {1: 0.36}}, "some-task"
    )
    (axes,) = drawn[0].axes
    assert (axes.get_yscale(), axes.get_ylabel()) == ("linear", "milliseconds")
    assert axes.lines[0].get_ydata() == pytest.approx([350, 340])
    # A twentieth above the longest: 360 x 1.05.
    assert axes.get_ylim() == pytest.approx((0, 378))


def test_errors_of_nothing_but_0_have_no_logarithmic_axis(drawn: list[Figure]) -> None:
    found = {"dwm": PredictionError(np.array([0.1, 0.2]), np.zeros(2))}
    pictures.draw_prediction_errors(Path("prediction_error.png"), found, "some-task")
    assert [axes.get_yscale() for axes in drawn[0].axes[:2]] == ["log", "linear"]
