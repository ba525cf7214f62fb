"""How cost grows: the laws by hand, the made runs, the prediction's arithmetic."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.growth import prediction
from experiments.growth.__main__ import KINDS, MEASURED, main
from experiments.growth.many_runs import choose_planned
from experiments.growth.of_programs import kernels_of
from experiments.growth.points import Point, fit_law, group_by_curve
from experiments.growth.prediction import Counts, Machine, Work, estimate_hours, estimate_seconds, robot_of, scaling
from experiments.sweep.plan import PlannedRun

TEN = Machine("ten", 8, 1, flops=10.0, bandwidth=5.0, link=2.0, memory=1.0, kernel_seconds=0.5, source="")


def test_a_power_is_found_and_how_far_points_lie_from_it() -> None:
    law = fit_law([1, 10, 100], [3, 300, 30_000])
    assert (law.factor, law.exponent, law.worst) == pytest.approx((3, 2, 1))
    assert law.at(2) == pytest.approx(12)
    # log 1, 4, 1 at log 1, 2, 4: flat at the mean log 4^(1/3); the middle lies 4^(2/3) above it.
    bent = fit_law([1, 2, 4], [1, 4, 1])
    assert (bent.exponent, bent.worst) == pytest.approx((0, 4 ** (2 / 3)))
    with pytest.raises(ValueError, match="two sizes"):
        fit_law([3, 3], [1, 2])


def test_of_a_point_measured_again_the_newest_counts() -> None:
    rows = [{"curve": "c", "against": "n", "size": s, "cost": c, "unit": "CPU s"} for s, c in ((2, 5), (1, 3), (2, 4))]
    assert group_by_curve(rows) == {"c": [Point("c", "n", 1, 3, "CPU s"), Point("c", "n", 2, 4, "CPU s")]}


def test_an_update_is_the_sum_of_four_parts_of_which_one_is_split() -> None:
    work = Work(flop=40, optimiser_bytes=10, kernels=4, gradient_bytes=8)
    # 40/10 + 10/5 + 4 x 0.5 alone; on two devices 20/10, and 2 x 8 x 1/2 bytes over the links: 8/2.
    assert estimate_seconds(work, TEN, 1) == 4 + 2 + 2
    assert estimate_seconds(work, TEN, 2) == 2 + 2 + 2 + 4
    assert estimate_seconds(work, TEN, 1, with_kernels=False) == 4 + 2


def test_scaling_stops_where_twice_as_many_save_less_than_a_tenth() -> None:
    # 64 / n + 4: 68, 36, 20, 12, 8, 6, 5.
    row = scaling("x", Work(flop=640, kernels=8), TEN)
    assert row == ["x", "ten", *(f"{1000 * time:.3g} ms" for time in (68, 36, 20, 12, 8, 6, 5)), "64"]
    # 1 / n + 9: 10, 9.5.
    assert scaling("x", Work(flop=10, kernels=18), TEN)[-1] == "1"


def test_runs_are_spread_the_longest_first_and_stages_follow_each_other() -> None:
    # 5 | 4 + 3 on two places takes 7; the next stage 2. In hours.
    assert estimate_hours([[3 * 3600, 5 * 3600, 4 * 3600], [2 * 3600]], 2) == 7 + 2


def test_tasks_have_the_sizes_of_their_robots() -> None:
    assert robot_of("hopper-medium-replay-v2") == (11, 3, "Hopper-v4", 402_000)
    assert robot_of("walker2d-medium-expert-v2") == (17, 6, "Walker2d-v4", 2_000_000)


def test_what_was_not_measured_is_asked_for() -> None:
    with pytest.raises(ValueError, match="measure --only programs"):
        Counts({})["kernels, update of iql"]


def test_a_prediction_is_the_same_wherever_it_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    # All runs that could lie in or below this folder are done.
    monkeypatch.setattr(PlannedRun, "is_done", lambda run: tmp_path in run.workdir.absolute().parents)
    prediction.plan_of.cache_clear()
    world_models, policies = prediction.plan_of("main")
    assert world_models
    assert policies


def test_the_shipped_points_are_drawn_and_predict(tmp_path: Path) -> None:
    main(["predict", "-o", str(tmp_path / "page.md")])
    page = (tmp_path / "page.md").read_text()
    assert all(machine.name in page for machine in prediction.read_machines())
    assert page == (MEASURED.parent / "PREDICTION.md").read_text()
    kinds = {json.loads(line)["kind"] for line in MEASURED.read_text().splitlines()}
    assert kinds == set(KINDS)
    main(["draw", "-o", str(tmp_path)])
    assert {path.stem for path in tmp_path.glob("*.svg")} == kinds - {"environments", "programs"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["measure"], "--jsonl"),  # not into the shipped points, which are of another machine
        (["measure", "--jsonl", "points", "--only", "luck"], "--only: unknown luck"),
        (["measure", "--jsonl", "points", "--only", "seeds", "--largest", "9"], "--only names neither"),
        (["measure", "--jsonl", "points", "--only", "seeds,runs", "--largest", "0"], "--largest must be at least 1"),
        (["draw"], "-o/--output"),
        (["draw", "-o", "out", "--jsonl", "no_unit"], "no_unit cannot be read: line 1 has None for its unit"),
        (["predict", "-o", "page.md", "--jsonl", "nowhere"], "nowhere holds no points"),
        (["predict", "-o", "page.md", "--jsonl", "only_data"], "only_data: no point of 'parameters, denoiser'"),
    ],
)
def test_a_wrong_call_is_refused(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = MEASURED.read_text().splitlines(keepends=True)
    Path("only_data").write_text("".join(row for row in shipped if json.loads(row)["kind"] == "data"))
    point = {"kind": "data", "curve": "c", "against": "n", "size": 1, "cost": 2}
    Path("no_unit").write_text(json.dumps(point) + "\n")
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert line in capsys.readouterr().err


def test_kernels_are_counted_outside_of_fusions() -> None:
    def function(x, y):
        return (x @ y) * 2 + 1

    one = kernels_of(function, *2 * [np.ones((64, 64))])
    assert 1 <= one <= 3  # a product, and what is around it


def test_made_runs_are_of_every_kind_of_study(tmp_path: Path) -> None:
    runs = choose_planned(tmp_path, 40)
    assert len({run.workdir for run in runs}) == 40
    assert len({run.name.partition("/")[0] for run in runs}) > 5
