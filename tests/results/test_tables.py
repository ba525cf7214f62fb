"""The tables of a summary, cell by cell."""

import numpy as np

from dwm_jax.results.diagnostics import (
    Calibration,
    Comparison,
    Diagnosis,
    PredictionError,
    Terminations,
    ValueAgreement,
)
from dwm_jax.results.scores import CriticCheck
from dwm_jax.results.tables import make_critic_table, make_model_table, make_value_table


def cells(table: str) -> dict[str, str]:
    """The only row of a table by its head."""
    head, _, row = (line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|"))
    return dict(zip(head, row, strict=True))


def test_critics_stand_beside_what_was_measured() -> None:
    # Of four evaluations the last three count: values 2, 3, 4, returns 1, 2, 3.
    check = CriticCheck("TD3+BC", np.arange(4), np.array([9.0, 2, 3, 4]), np.array([9.0, 1, 2, 3]))
    assert cells(make_critic_table({"TD3+BC": check}, {"TD3+BC": 2.5}, 1.0)) == {
        "method": "TD3+BC",
        "critic value at initial states": "3",
        "discounted return": "2",
        "ratio": "1.50",
        "mean Q over the last batches": "2.5",
    }


def diagnosed() -> Diagnosis:
    """Every segment ended with the first of two steps."""
    at_first, calibration = np.array([0.5, np.nan]), Calibration(*np.zeros((3, 1)))
    return Diagnosis(
        error=PredictionError(at_first, at_first),
        error_at_starts=PredictionError(at_first, at_first),
        calibration=calibration,
        calibration_asked=calibration,
        terminations=Terminations(np.array([1.0, np.nan]), np.full(2, np.nan)),
        spread_over_error=at_first,
        energy_score=at_first,
        variance_by_label=np.array([np.nan]),
        values={},
        sampling_seconds={},
        asked=Comparison(None, None),  # type: ignore[arg-type]
    )


def summary_of(origin: str) -> str:
    return make_model_table({"dwm": diagnosed()}, {"dwm": 10.0}, {"dwm": np.nan}, {"dwm": 1}, origin, 20)


def test_a_table_says_where_no_episode_was_held_out() -> None:
    assert summary_of("held-out").startswith(
        "World models on held-out segments at the first and the last imagined step. "
    )
    assert summary_of("training").startswith(
        "World models on training segments at the first and the last imagined step (no episode was held out: "
    )


def test_what_a_world_model_was_not_asked_is_a_dash_in_its_table() -> None:
    row = cells(summary_of("held-out"))
    known = {
        "world model": "dwm",
        "state, step 1": "0.5",
        "reward, step 1": "0.5",
        "spread, step 1": "0.5",
        "energy score, step 1": "0.5",
        "terminations found": "1",
        "steps used by policies": "1",
        "pretraining (s)": "10",
    }
    assert {head: cell for head, cell in row.items() if cell != "-"} == known
    assert row["terminations invented by step 2"] == row["state, step 2"] == row["spread, step 2"] == "-"


def test_what_imagination_takes_from_values_stands_beside_what_the_discount_takes() -> None:
    # Means 100, 200, 300 of recorded and 99, 194, 600 of imagined states: -1 %, -3 %, and the third step is not used.
    nothing = np.full(3, np.nan)
    agreement = ValueAgreement(np.array([100.0, 200, 300]), np.array([99.0, 194, 600]), *[nothing] * 4)
    found = {"dwm": diagnosed()._replace(values={"DWM-IQL": agreement})}
    assert cells(make_value_table(found, {"dwm": 2}, 0.9)) == {
        "world model": "dwm",
        "critics of": "DWM-IQL",
        "H": "2",
        "imagined states, step 1": "-1.00%",
        "imagined states, step H": "-3.00%",
        "discount, H steps": "-19.00%",  # 0.81 is left
    }
