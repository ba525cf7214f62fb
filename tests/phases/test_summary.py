"""The learning curves of a run: what stands beside what, and that it can be told apart."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from dwm_jax.data.dataset import flatten
from dwm_jax.data.recording import Recording
from dwm_jax.learners.td3_bc import TD3BC
from dwm_jax.phases import summary
from dwm_jax.registry import LEARNERS, METHODS, Learning
from dwm_jax.results import pictures
from dwm_jax.results.scores import Curve, fall_of_loss
from dwm_jax.types import Episode
from dwm_jax.world_models.base import TrainedModel
from dwm_jax.world_models.dwm import DiffusionWorldModel
from tests import tiny


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, in the place of their files."""
    figures: list[Figure] = []
    monkeypatch.setattr(pictures, "_save", lambda figure, path: figures.append(figure))
    return figures


def draw(*methods: str) -> None:
    curves = [
        Curve(name, np.array([10, 20]), np.array([[0.1, 0.2], [0.3, 0.4]]) + 0.1 * number, False)
        for number, name in enumerate(methods)
    ]
    summary.draw_learning_curves(Path("learning_curves.png"), "some-task", curves)


def test_a_learner_from_outside_is_another_colour_in_the_axis_of_td3_bc(
    drawn: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Huber(TD3BC):
        title = "TD3+Huber"

    monkeypatch.setitem(LEARNERS, "td3_huber", Huber)
    monkeypatch.setitem(METHODS, "TD3+Huber", Learning("td3_huber"))
    draw("TD3+BC", "TD3+Huber")
    (axes,) = drawn[0].axes
    assert axes.get_title() == ""
    assert [line.get_label() for line in axes.lines] == ["TD3+BC", "TD3+Huber"]
    assert axes.lines[0].get_color() != axes.lines[1].get_color()


def test_six_methods_share_an_axis_and_those_that_differ_in_the_learner_differ_in_colour(drawn: list[Figure]) -> None:
    draw("TD3+BC", "IQL", "DWM-TD3BC", "DWM-IQL", "DWM-PQL", "DD")
    (axes,) = drawn[0].axes
    assert axes.get_title() == ""
    assert len({line.get_color() for line in axes.lines}) == 6
    # The planner, which has one score, is a line across.
    assert axes.lines[-1].get_label() == "DD"
    assert axes.lines[-1].get_linestyle() == "--"


def test_more_than_six_methods_have_a_panel_per_learner_titled_as_methods_call_it(drawn: list[Figure]) -> None:
    draw("TD3+BC", "DWM-TD3BC", "T-TD3BC", "IQL", "DWM-IQL", "T-IQL", "DD")
    assert [axes.get_title() for axes in drawn[0].axes] == ["TD3+BC", "IQL"]
    assert [line.get_label() for line in drawn[0].axes[1].lines] == ["IQL", "DWM-IQL", "T-IQL", "DD"]


def test_planners_alone_are_shown_too(drawn: list[Figure]) -> None:
    draw("DD")
    (axes,) = drawn[0].axes
    assert [line.get_label() for line in axes.lines] == ["DD"]


def one_world_model(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The summary of a run that has one world model and nobody who acts."""
    episode = Episode(np.zeros((4, 1)), np.zeros((3, 1)), np.ones(3), False)
    dataset, scale = flatten([episode], 0.9, 1.0)
    recording = Recording(dataset, scale, np.array([0]), np.array([], int), "")
    run = tiny.run_of(tiny.config(policy__horizon=2), recording, workdir)
    run = run._replace(task=SimpleNamespace(name="some-task"))  # type: ignore[arg-type]
    monkeypatch.setattr(pictures, "_save", lambda figure, path: None)
    return summary.write_summary(run, {"dwm": TrainedModel(DiffusionWorldModel(), (), 0.0)}, {})


def test_an_error_inside_the_diagnostics_is_not_taken_for_too_little_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(summary, "diagnose", broken)
    with pytest.raises(ValueError, match="broadcast"):
        one_world_model(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("losses", "fall"),
    [
        ([9.0, 8.0, 4.0, 4.0, 3.0, 1.0], 0.5),  # thirds 8.5, 4, 2: 1 - 2 / 4
        ([4.0, 4.0, 5.0], -0.25),
        ([1.0, 0.5], np.nan),
        ([3.0, 1.0, -1.0], np.nan),  # a likelihood's: 1 - (-1) would be a fall by two of itself
        ([], np.nan),
    ],
)
def test_the_fall_of_a_loss_by_hand(losses: list[float], fall: float) -> None:
    np.testing.assert_allclose(fall_of_loss(np.array(losses)), fall, rtol=1e-12)
