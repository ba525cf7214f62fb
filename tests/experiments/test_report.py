"""The report: its statistics by hand, what it compares, and that nothing a folder may hold stops it."""

import json
import sys
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dwm_jax.config import default_config, to_json
from dwm_jax.results.diagnostics import PredictionError
from dwm_jax.runtime.row_files import JsonLines, Result, Results
from experiments.report import (
    document,
    drawing,
    markdown,
    reading,
    scores,
    sections,
    statistics,
    timing,
    together,
    world_models,
)
from experiments.report.__main__ import main, write
from experiments.report.found import Found, Gap
from experiments.studies import reported
from experiments.studies.catalogue import STUDIES

TASK = "hopper-medium-v2"
ONE_OF_A_KIND = tuple({study.kind: study for study in STUDIES.values()}.values())


def make_run(
    folder: Path, by_method: Mapping[str, Sequence[Sequence[float]]], task: str = TASK, **overrides: object
) -> Path:
    """A finished run. `by_method`: scores of the evaluations, one row per evaluation, a column per seed."""
    folder.mkdir(parents=True)
    num_evaluations, num_seeds = np.shape(next(iter(by_method.values())))
    config = default_config()
    config.task, config.methods, config.num_seeds = task, ",".join(by_method), num_seeds
    config.policy.num_updates, config.evaluation.every, config.evaluation.episodes = num_evaluations, 1, 2
    config.update_from_flattened_dict({key.replace("__", "."): value for key, value in overrides.items()})
    (folder / "config.json").write_text(to_json(config))
    # Two episodes per evaluation: 0.1 below the score and 0.1 above it.
    Results(folder / "results.csv").append(
        Result(method, task, seed, step, episode, 100 * score, score + (0.2 * episode - 0.1), 0.0)
        for method, rows in by_method.items()
        for step, row in enumerate(rows, start=1)
        for seed, score in enumerate(row)
        for episode in range(2)
    )
    error = {"observation": [0.1, 0.2], "reward": [0.01, 0.02]}
    calibration = {"requested": [0.0, 0.5], "imagined": [0.0, 0.4], "recorded": [0.0, 0.5]}
    diagnostics = {"prediction_error": {"dwm": error}, "calibration": {"dwm": calibration}, "acting_seconds": {}}
    (folder / "diagnostics.json").write_text(json.dumps(diagnostics))
    JsonLines(folder / "timing.jsonl").append(
        {"phase": method, "step": num_evaluations, "seconds": 8.0} for method in by_method
    )
    command = ["/anywhere/bin/python3", "-m", "dwm_jax.train", "--workdir", str(folder)]
    JsonLines(folder / "starts.jsonl").append([{"time": "2026-01-01", "command": command, "commit": "abc1234"}])
    return folder


def read(folder: Path) -> Found:
    return reading.read_all(folder, list(STUDIES))


def test_a_link_counts_as_a_run_in_a_study_and_nowhere_else(tmp_path: Path) -> None:
    run = make_run(tmp_path / "here" / TASK / "mine", {"TD3+BC": [[0.1]]})
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / TASK).symlink_to(run.parent)
    (tmp_path / "circle").symlink_to(tmp_path)
    assert [one.place for one in read(tmp_path).runs] == [f"here/{TASK}/mine", f"main/{TASK}/mine"]
    assert [one.place for one in reading.read_all(tmp_path, ()).runs] == [f"here/{TASK}/mine"]


# --------------------------------------------------------------------------------- statistics


def test_interquartile_mean_is_that_of_the_middle_half() -> None:
    # Of 0 .. 7 the middle half is 2, 3, 4, 5: 14 / 4 = 3.5.
    found = statistics.interquartile_mean([np.arange(4.0), np.arange(4.0, 8.0)])
    assert found.value == 3.5
    assert found.low < 3.5 < found.high


def test_the_bootstrap_draws_seeds_inside_each_task() -> None:
    # A task always at 0 and one always at 1: half of the seeds are above 0.5 in every resample that keeps the tasks.
    profile = statistics.performance_profile([np.zeros(5), np.ones(5)], np.array([-0.5, 0.5, 1.5]))
    for bound in profile:
        np.testing.assert_array_equal(bound, [1.0, 0.5, 0.0])


def test_one_seed_has_no_interval() -> None:
    found = statistics.interquartile_mean([np.array([0.3]), np.array([0.1, 0.2])])
    assert found.value == pytest.approx(0.2)
    assert np.isnan([found.low, found.high]).all()


# --------------------------------------------------------------------------------- the paper's figures


@pytest.mark.parametrize(
    ("task", "origin", "expected"),
    [
        ("hopper-medium-v2", "D4RL's file", ("hopper-medium-v2", True)),
        ("hopper-medium-v2", "not D4RL's file", ("hopper-medium-v2", False)),
        ("hopper-medium-v2", None, ("hopper-medium-v2", None)),
        ("maze2d-umaze-v1", "untold", ("maze2d-umaze-v1", None)),
        ("hopper-medium", None, ("hopper-medium-v2", False)),
        ("maze2d-umaze", None, ("maze2d-umaze-v1", False)),
        ("hopper", None, None),
    ],
)
def test_the_papers_task_beside_ours(task: str, origin: str | None, expected: tuple[str, bool | None] | None) -> None:
    tasks = {task for _, task in reported.read_scores("returns.csv")}
    assert reported.find_counterpart(task, tasks, origin) == expected


@pytest.mark.parametrize(
    ("said", "heads"),
    [
        ({"origin": "D4RL's file"}, "| paper | difference | CORL |"),
        (
            {"origin": "not D4RL's file"},
            "| paper, on other data (hopper-medium-v2) | difference | CORL, on other data (hopper-medium-v2) |",
        ),
        (None, "| paper (our data is unverified) | difference | CORL (our data is unverified) |"),
    ],
)
def test_corl_stands_beside_the_paper_and_both_say_whose_data_it_was(
    tmp_path: Path, said: dict[str, str] | None, heads: str
) -> None:
    folder = make_run(tmp_path / "runs/main/hopper-medium-v2/seeds", {"TD3+BC": [(0.5,)], "DWM-TD3BC": [(0.6,)]})
    if said is not None:
        (folder / "data.json").write_text(json.dumps(said))
    write(read(tmp_path / "runs"), tmp_path / "runs", tmp_path / "out")
    text = (tmp_path / "out/report.md").read_text()
    assert heads in text
    cells = {
        row[1]: row
        for row in ([cell.strip() for cell in line.split("|")] for line in text.splitlines())
        if len(row) == 11
    }
    assert (cells["TD3+BC"][6], cells["DWM-TD3BC"][6]) == ("0.60 ± 0.03", "–")  # CORL: 60.37 ± 3.49
    assert "On D4RL's hopper-medium-v2 others report: MOBILE 1.04 (OfflineRL-Kit)." in text


def test_the_peers_figures_are_on_the_papers_scale() -> None:
    peers = reported.read_peers()
    assert peers["CORL", "TD3+BC"]["maze2d-umaze-v1"] == (pytest.approx(0.2941), pytest.approx(0.1231))
    assert len(peers["CORL", "IQL"]) == 13
    assert np.isnan(peers["OfflineRL-Kit", "MOBILE"]["hopper-medium-v2"].std)


def test_the_papers_steps_begin_at_the_given_state() -> None:
    # Its states at step 2 are our first; its rewards at step 1 are.
    error = world_models.reported_errors("prediction_error.csv", TASK, None).errors["dwm"]
    assert (error.observation[0], error.reward[0]) == (0.1050, 8.89e-05)
    assert len(error.observation) == len(error.reward) == 7


WALKER = "walker2d-medium-expert-v2"


@pytest.mark.parametrize(
    ("task", "origin", "heading", "legend"),
    [
        (WALKER, "D4RL's file", "dwm: paper", "paper"),
        (WALKER, "not D4RL's file", f"dwm: paper, on other data ({WALKER})", "paper, other data"),
        (WALKER, None, "dwm: paper (our data is unverified)", "paper"),
        ("walker2d-medium-expert", None, f"dwm: paper, on other data ({WALKER})", "paper, other data"),
        ("hopper-medium-expert", None, f"dwm: paper, on other data ({WALKER})", "paper, other data"),
    ],
)
def test_the_papers_prediction_errors_say_whose_data_they_are_of(
    tmp_path: Path, task: str, origin: str | None, heading: str, legend: str
) -> None:
    folder = make_run(tmp_path / f"runs/prediction_error/{task}/seed0", {"TD3+BC": [(0.5,)]}, task)
    if origin is not None:
        (folder / "data.json").write_text(json.dumps({"origin": origin}))
    (run,) = read(tmp_path / "runs").runs
    text = world_models.prediction_error("prediction_error", {task: [run]}, "prediction_error.csv", tmp_path)
    heads = [line for line in text.splitlines() if line.startswith(("| state, step", "| reward, step"))]
    assert heads == [f"| state, step | dwm | {heading} |", f"| reward, step | dwm | {heading} |"]
    picture = tmp_path / f"figures/prediction_error-{task}-observation-error.svg"
    assert f">dwm, {legend}<" in picture.read_text()


# --------------------------------------------------------------------------------- comparing


def test_a_spread_says_over_how_many_world_models_it_goes() -> None:
    error = PredictionError(np.ones(2), np.ones(2))
    text = "± is the standard deviation over world models of different seeds: 2 of dwm; 1 of one_step.\n"
    assert world_models.remark_on_spread({"dwm": [error, error], "one_step": [error]}) == text
    assert world_models.remark_on_spread({"dwm": [error], "one_step": [error]}) == ""


def test_a_report_without_scores_names_no_files_of_scores(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "runs" / "model", {"DWM": [(0.0,)]})
    (folder / "results.csv").unlink()
    write(read(tmp_path / "runs"), tmp_path / "runs", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.csv"))
    assert ".csv" not in (tmp_path / "out/report.md").read_text()


def test_the_best_variant_stands_beside_the_paper(tmp_path: Path) -> None:
    # Four evaluations of two seeds. Means of the last three, H = 1: (0.3, 0.5); H = 3: (0.7, 0.9), mean 0.8, std 0.1.
    make_run(
        tmp_path / f"main/{TASK}/H1", {"DWM-TD3BC": [(9, 9), (0.2, 0.4), (0.3, 0.5), (0.4, 0.6)]}, policy__horizon=1
    )
    make_run(
        tmp_path / f"main/{TASK}/H3", {"DWM-TD3BC": [(9, 9), (0.6, 0.8), (0.7, 0.9), (0.8, 1.0)]}, policy__horizon=3
    )
    runs = read(tmp_path).runs
    (line,) = scores.make_lines(
        "main", TASK, scores.choose_variants(scores.collect_scores(runs, ())), reported.read_scores("returns.csv")
    )
    assert line.choice.score.run.variant == "H3"
    assert line.choice.num_candidates == 2
    assert line.reported == (0.65, 0.10)
    assert line.difference == pytest.approx(0.8 - 0.65)
    shown = scores.make_table((), [line]).splitlines()[-1]
    assert "| 0.80 ± 0.10 | 0.90 ± 0.10 | 0.65 ± 0.10 | +0.15 | 2 x 2 | 4 | H3 (best of 2) |" in shown
    # Where the horizon is what is compared, both stand.
    assert [choice.score.settings for choice in scores.choose_variants(scores.collect_scores(runs, ("H",)))] == [
        ("1",),
        ("3",),
    ]


def test_figures_over_tasks_are_of_the_largest_whole_block(tmp_path: Path) -> None:
    for task in ("hopper-medium", "hopper-medium-replay", "halfcheetah-medium"):
        make_run(tmp_path / f"main/{task}/a", {"DWM-TD3BC": [(0.5, 0.6)], "OneStep-TD3BC": [(0.1, 0.2)]}, task)
    make_run(tmp_path / "model_free/hopper-medium/a", {"IQL": [(0.3, 0.4)]}, "hopper-medium")
    for horizon in (1, 3):
        folder = tmp_path / f"transformer/hopper-medium/H{horizon}"
        make_run(folder, {"T-TD3BC": [(0.3, 0.1 * horizon)]}, "hopper-medium", policy__horizon=horizon)
    everything, *made = document.make_sections(read(tmp_path), tmp_path / "out")
    # The Transformer is in no study of returns: its best horizon stands for it.
    assert "| T-TD3BC | – | 0.30 ± 0.00 | – |" in everything.text
    lines = [section.lines for section in made]
    seeds, tasks, left_out = together.find_comparable(together.choose_best(lines))
    # Two methods on three tasks are six cells; four methods on one are four.
    assert list(seeds) == ["DWM-TD3BC", "OneStep-TD3BC"]
    assert sorted(tasks) == ["halfcheetah-medium", "hopper-medium", "hopper-medium-replay"]
    assert left_out == ["T-TD3BC", "IQL"]


def test_learning_curves_of_many_methods_are_a_picture_per_learner(tmp_path: Path) -> None:
    methods = ["TD3+BC", "DWM-TD3BC", "T-TD3BC", "IQL", "DWM-IQL", "T-IQL", "DD"]
    make_run(
        tmp_path / f"main/{TASK}/a",
        {method: [(0.5, 0.6)] for method in methods},
        world_models__decision_diffuser__num_updates=1,
    )
    found = scores.choose_variants(scores.collect_scores(read(tmp_path).runs, ()))
    shown = scores.make_lines("main", TASK, found, {})
    made = sections.learning_curves("main", TASK, shown, tmp_path / "out")
    assert [caption for caption, _ in made] == [f"Learning curves on {TASK}, TD3+BC", f"Learning curves on {TASK}, IQL"]
    made = sections.learning_curves("main", TASK, shown[1:], tmp_path / "out")
    assert made == [(f"Learning curves on {TASK}", f"figures/main-{TASK}-curves.svg")]
    text = (tmp_path / "out" / made[0][1]).read_text()
    assert all(f">{line.choice.score.method}<" in text for line in shown[1:])


def test_all_methods_together_say_that_their_budgets_differ(tmp_path: Path) -> None:
    make_run(tmp_path / f"main/{TASK}/a", {"DWM-TD3BC": [(0.5, 0.6)] * 2})
    make_run(tmp_path / f"model_free/{TASK}/a", {"IQL": [(0.3, 0.4)] * 2})
    everything, *_ = document.make_sections(read(tmp_path), tmp_path / "out")
    assert "Budgets differ" not in everything.text
    make_run(tmp_path / f"rebrac/{TASK}/a", {"TD3+BC": [(0.3, 0.4)] * 1_200})
    everything, *_ = document.make_sections(read(tmp_path), tmp_path / "out")
    assert "|\n\nBudgets differ: 2 to 1,200 updates of a policy.\n" in everything.text


def test_a_profile_begins_with_all_seeds_and_ends_with_none() -> None:
    # The margin is 3 % of 0.7 - 0.2, or 0.03 where all scores are the same.
    for found, ends in ((np.array([0.2, 0.7]), (0.185, 0.715)), (np.array([0.0, 0.0]), (-0.03, 0.03))):
        thresholds = together.thresholds_of(found)
        assert thresholds[[0, -1]] == pytest.approx(ends)
        assert statistics.performance_profile([found], thresholds).value[[0, -1]].tolist() == [1, 0]


def test_commands_name_the_runs_folder_as_runs(tmp_path: Path) -> None:
    start = {
        "time": "t",
        "commit": "abc",
        "xla_flags": "--a=1 --b",
        "command": ["/x/python3.11", "-m", "dwm_jax.train", "--workdir", f"{tmp_path}/a b", f"--c.d={tmp_path}/w"],
    }
    assert document.command(reading.read_start(start), tmp_path) == (
        "XLA_FLAGS='--a=1 --b' python3.11 -m dwm_jax.train --workdir 'RUNS/a b' --c.d=RUNS/w  # t, commit abc"
    )


def test_figures_stand_to_the_right_and_zero_has_no_sign() -> None:
    table = markdown.table(["a", "b"], [["x|<y>", markdown.number(-0.001)], ["z", markdown.NOTHING]])
    assert table == "| a | b |\n| --- | ---: |\n| x\\|&lt;y> | 0.00 |\n| z | – |\n"


def test_times_of_sampling_stand_beside_the_papers(tmp_path: Path) -> None:
    folder = make_run(tmp_path / f"sampling_time/{TASK}/a", {"IQL": [(0.5, 0.6)]})
    seconds = {"dwm": {"1": 0.5}, "autoregressive, told the recorded actions": {"1": 0.25, "3": 0.75}}
    (folder / "diagnostics.json").write_text(json.dumps({"sampling_seconds": seconds}))
    text = timing.sampling("sampling_time", {TASK: read(tmp_path).runs}, "timing.csv", tmp_path / "out")
    assert [line for line in text.splitlines() if line.startswith("| ")][2:] == [
        "| dwm | 0.5 | – |",
        "| autoregressive, told the recorded actions | 0.25 | 0.75 |",
        "| paper: DWM (T=8) | 0.031 | – |",
        "| paper: autoregressive diffusion | 0.030 | 0.087 |",
    ]


# --------------------------------------------------------------------------------- what a folder may hold


def test_what_is_missing_or_broken_is_listed(tmp_path: Path) -> None:
    whole = {"DWM-TD3BC": [(0.5, 0.6)]}
    make_run(tmp_path / f"main/{TASK}/whole", whole)
    make_run(tmp_path / f"main/{TASK}/unfinished", whole, policy__num_updates=1_000)
    (tmp_path / f"main/{TASK}/unfinished/diagnostics.json").unlink()
    damage: dict[str, tuple[str, str]] = {
        "no-json": ("config.json", "{"),
        "no-column": ("results.csv", "method,task\na,b\n"),
        "wrong-shape": ("diagnostics.json", '{"prediction_error": {"dwm": {"observation": [1], "reward": [1, 2]}}}'),
        "wrong-type": ("diagnostics.json", "[1]"),
        "no-command": ("starts.jsonl", '{"time": "now"}\n'),
        "no-seconds": ("timing.jsonl", '{"phase": "IQL", "step": 1}\n'),
        "no-learner": ("config.json", '{"task": "hopper-medium-v2", "methods": "nothing-known"}'),
    }
    for name, (file, text) in damage.items():
        (make_run(tmp_path / f"main/{TASK}/{name}", whole) / file).write_text(text)
    members = {
        f"main/{TASK}/whole": {"state": "done", "log": "none.txt"},
        f"main/{TASK}/never": {"state": "failed", "log": "logs/never.txt"},
    }
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/never.txt").write_text("why")
    (tmp_path / "sweep.json").write_text(json.dumps({"scale": "small", "members": members}))
    found = read(tmp_path)
    gaps = {place.rpartition("/")[2]: reason for place, reason in found.gaps}
    assert found.scale == "small"
    assert gaps.keys() == {"unfinished", "never", *damage}
    assert gaps["never"] == "failed, see logs/never.txt"
    assert Gap(f"main/{TASK}/unfinished", "DWM-TD3BC: evaluated up to update 1 of 1,000") in found.gaps
    assert all("cannot be read: " in gaps[name] for name in damage)
    # What a run can be shown without keeps no score from the report.
    shown = {run.variant: run for run in found.runs}
    assert shown.keys() == {"whole", "unfinished", "wrong-shape", "wrong-type", "no-command", "no-seconds"}
    assert len({len(run.results) for run in shown.values()} - {0}) == 1
    assert (shown["no-command"].starts, shown["no-seconds"].learning_seconds) == ([], {})
    assert shown["wrong-shape"].measured == shown["wrong-type"].measured == ({}, {}, {}, {}, {})
    write(found, tmp_path, tmp_path / "out")
    assert all(name in (tmp_path / "out/report.md").read_text() for name in gaps)


def make_model(folder: Path, trained: Mapping[int, float], total: int) -> None:
    """A world model's folder. `trained`: seconds by the step of its checkpoints."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model": "dwm", "settings": {"num_updates": total}}))
    JsonLines(folder / "timing.jsonl").append(
        {"phase": "world model dwm", "step": step, "seconds": seconds} for step, seconds in trained.items()
    )


def test_what_an_unfinished_world_model_cost_is_divided_by_what_it_has_done(tmp_path: Path) -> None:
    make_run(tmp_path / "run", {"IQL": [(0.5,)]})
    make_model(tmp_path / "world_models/half", {25_000: 480.0, 50_000: 1_000.0}, 200_000)
    make_model(tmp_path / "world_models/new", {}, 200_000)
    make_model(tmp_path / "world_models/whole", {1_000: 30.0}, 1_000)
    found = read(tmp_path)
    assert found.gaps == [
        Gap("world_models/half", "trained up to update 50,000 of 200,000"),
        Gap("world_models/new", "trained up to update 0 of 200,000"),
    ]
    # 1,000 s for 50 thousand updates; 30 s for one.
    assert timing.pretraining(found.models).splitlines()[2:] == [
        "| half | 50,000 | 1000 | 20 |",
        "| whole | 1,000 | 30 | 30 |",
    ]


def test_critics_are_those_of_finished_methods_at_whole_evaluations(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", {"TD3+BC": [(0.5,), (0.6,)], "IQL": [(0.5,), (0.6,)]})
    rows = Results(folder / "results.csv").read()
    (folder / "results.csv").unlink()
    # The second method is at its first evaluation of two; of a third evaluation of the first, one episode is written.
    kept = [row._replace(value_at_start=1.0 + row.step, discounted_return=2.0) for row in rows]
    kept = [row for row in kept if row.method == "TD3+BC" or row.step == 1]
    torn = kept[0]._replace(step=3, value_at_start=100.0)
    Results(folder / "results.csv").append([*kept, torn])
    (run,) = read(tmp_path).runs
    assert list(run.critics) == ["TD3+BC"]
    assert run.critics["TD3+BC"].steps.tolist() == [1, 2]
    assert run.critics["TD3+BC"].values.tolist() == [2.0, 3.0]


def test_a_task_without_reference_scores_is_shown_raw(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "anywhere", {"IQL": [(0.5, 0.6)], "TD3+BC": [(0.1, 0.2)]}, task="own-v0")
    rows = [row._replace(score_0_1=float("nan")) for row in Results(folder / "results.csv").read()]
    (folder / "results.csv").unlink()
    Results(folder / "results.csv").append(rows)
    write(read(tmp_path), tmp_path, tmp_path / "out")
    assert "| IQL | 55.0 ± 5.0 | 55.0 ± 5.0 | 2 x 2 | 1 | anywhere |" in (tmp_path / "out/report.md").read_text()


class Links(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.targets: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given: dict[str, Any] = dict(attrs)
        self.sources += [given[key] for key in ("src", "srcset", "data") if key in given]
        self.sources += [given["href"]] if tag == "link" else []
        self.targets += [given["href"]] if tag == "a" else []
        self.ids += [given["id"]] if "id" in given else []


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of a study of every kind, two each, and their report in `out`."""
    folder = tmp_path_factory.mktemp("studies")
    tables = {"DWM-TD3BC": [(0.5, 0.6)], "OneStep-TD3BC": [(0.3, 0.2)]}
    for study in ONE_OF_A_KIND:
        for horizon in (1, 3):
            make_run(folder / f"runs/{study.name}/{TASK}/H{horizon}", tables, policy__horizon=horizon)
    write(read(folder / "runs"), folder / "runs", folder / "out")
    return folder


def test_the_page_needs_nothing_but_itself(every_kind: Path) -> None:
    links = Links()
    links.feed((every_kind / "out/report.html").read_text())
    assert len(links.sources) > len(ONE_OF_A_KIND)
    assert all(source.startswith("data:") for source in links.sources)
    inside = [target[1:] for target in links.targets if target.startswith("#")]
    assert len(inside) > len(ONE_OF_A_KIND)
    assert set(inside) <= set(links.ids)
    assert {target for target in links.targets if not target.startswith("#")} == {"comparison.csv", "evaluations.csv"}
    assert "url(" not in (every_kind / "out/report.html").read_text()


def test_every_kind_of_study_has_its_section_and_the_same_runs_make_the_same_files(every_kind: Path) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("**/*") if path.is_file()}

    first = files(every_kind / "out")
    text = first["report.md"].decode()
    assert all(f"\n## {study.title}\n" in text for study in ONE_OF_A_KIND)
    assert str(every_kind) not in text
    write(read(every_kind / "runs"), every_kind / "runs", every_kind / "again")
    assert files(every_kind / "again") == first


def test_the_command_writes_the_report_and_refuses_a_folder_without_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(runs: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["report", str(tmp_path / runs), "-o", str(tmp_path / "out")])
        main()
        return capsys.readouterr()

    with pytest.raises(SystemExit) as refused:
        command("none")
    assert refused.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'} holds no run: no config.json in it or below\n"
    assert not (tmp_path / "out").exists()
    results = make_run(tmp_path / "damaged", {"IQL": [(0.5, 0.6)]}) / "results.csv"
    results.write_text("a,b\n")
    with pytest.raises(SystemExit):
        command("damaged")
    there = f"{tmp_path / 'damaged'} holds no run that can be read: damaged: {results} cannot be read: line 1 is no row"
    assert capsys.readouterr().err.startswith(f"error: {there}")
    make_run(tmp_path / "runs" / "mine", {"IQL": [(0.5, 0.6)]})
    assert command("runs") == (f"{tmp_path / 'out/report.html'}: 1 run, 0 missing\n", "")
    (row,) = (tmp_path / "out/comparison.csv").read_text().splitlines()[1:]
    assert row.startswith(f",{TASK},IQL,,mine,1,score_0_1,2,2,1,0.55,")
    assert len((tmp_path / "out/evaluations.csv").read_text().splitlines()) == 1 + 2


def test_without_the_converter_to_html_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs" / "one", {"TD3+BC": [[0.1]]})
    monkeypatch.setattr("experiments.report.__main__.find_spec", lambda package: None)
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "runs"), "-o", str(tmp_path / "report")])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: report.html needs markdown-it-py: pip install markdown-it-py\n"
    assert not (tmp_path / "report").exists()


def test_a_picture_is_drawn_again_only_where_it_shows_something_else(tmp_path: Path) -> None:
    drawn: list[float] = []

    def draw(path: Path, value: float) -> None:
        drawn.append(value)
        path.write_text(f"<svg>{value}</svg>\n")

    for value, font_size in ((1.0, 13), (1.0, 13), (2.0, 13), (2.0, 11), (2.0, 11)):
        drawing.draw_once(draw, tmp_path / "a.svg", value, font_size=font_size)
    assert drawn == [1.0, 2.0, 2.0]
    assert (tmp_path / "a.svg").read_text().startswith("<svg>2.0</svg>\n<!-- ")
    (tmp_path / "b.svg").symlink_to(tmp_path / "a.svg")
    drawing.draw_once(draw, tmp_path / "b.svg", 2.0, font_size=11)
    assert len(drawn) == 4
