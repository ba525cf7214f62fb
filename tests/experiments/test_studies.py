"""The studies as data: complete, each run a valid config, shared where they are the same."""

import csv
from pathlib import Path

import pytest

from dwm_jax.config import check
from dwm_jax.registry import METHODS
from experiments.studies.catalogue import STUDIES
from experiments.studies.scales import SCALES
from experiments.studies.study import members_at, same_run, tasks_at
from experiments.sweep.plan import parse_config

PAPER = Path(__file__).parents[2] / "experiments" / "studies" / "paper"


def reported(name: str) -> list[dict[str, str]]:
    lines = [line for line in (PAPER / name).read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


def members(study: str, scale: str, task: str):
    return [member for member in members_at(STUDIES[study], scale) if member.task == task]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", STUDIES)
def test_every_run_has_a_place_of_its_own_and_a_config_that_is_allowed(name: str, scale: str) -> None:
    found = members_at(STUDIES[name], scale)
    assert found
    assert len({(member.task, member.variant) for member in found}) == len({same_run(member) for member in found})
    assert len({same_run(member) for member in found}) == len(found)
    for member in (member for member in found if member.task == found[0].task):
        assert member.methods
        assert set(member.methods) <= METHODS.keys()
        config = parse_config(member.config, {"methods": ",".join(member.methods), **member.overrides})
        assert config.task == member.task
        config.task = "maze2d-umaze"  # its data need not be here
        check(config, num_devices=1)


def test_the_main_table_searches_horizon_and_return_to_go() -> None:
    found = members("main", "paper", "walker2d-medium-expert-v2")
    # 3 learners x (4 horizons x 3 returns-to-go with DWM, 4 horizons with the one-step model and as recorded)
    assert len(found) == 3 * (4 * 3 + 4 + 4)
    dwm = [member for member in found if member.methods == ("DWM-IQL",)]
    searched = {(member.overrides["policy.horizon"], member.overrides["policy.return_to_go"]) for member in dwm}
    assert searched == {(h, g) for h in "1357" for g in ("0.8", "0.9", "1.0")}
    updates = {member.methods[0]: member.overrides["policy.num_updates"] for member in found}
    assert updates["DWM-PQL"] == "500000"
    assert updates["OneStep-PQL"] == updates["OneStep-TD3BC"] == "200000"
    (td3_bc,) = (m for m in members("model_free", "paper", "hopper-medium-v2") if m.methods == ("TD3+BC",))
    assert td3_bc.overrides == {"policy.num_updates": "1000000"}


def test_every_score_that_was_reported_has_a_study() -> None:
    there = {
        (method, member.task, member.overrides.get("policy.horizon"))
        for study in STUDIES.values()
        for member in members_at(study, "paper")
        for method in member.methods
    }
    without_horizon = {(method, task) for method, task, _ in there}
    for row in reported("returns.csv") + reported("lambda_return.csv"):
        assert (row["method"], row["task"]) in without_horizon
    for row in reported("horizons.csv") + reported("transformer_horizons.csv"):
        assert (row["method"], row["task"], row["horizon"]) in there
    steps = {member.variant for member in members("diffusion_steps", "paper", "hopper-medium-v2")}
    assert {f"DWM-T{row['T']}-K{row['K']}-N{row['N']}" for row in reported("diffusion_steps.csv")} == steps
    assert all((PAPER / study.reported).exists() for study in STUDIES.values() if study.reported)


def test_studies_share_the_runs_they_have_in_common() -> None:
    def runs(name: str) -> set[tuple[object, ...]]:
        return {same_run(member) for member in members_at(STUDIES[name], "paper")}

    assert runs("sequence_length") <= runs("main") | runs("horizons")
    assert runs("inference_time") <= runs("main") | runs("decision_diffuser")
    # Of vanilla and lambda-return one is what the main table has; the other half is its own.
    assert len(runs("lambda_return") & runs("main")) == len(runs("lambda_return")) / 2


def test_tasks_stand_for_the_papers_at_every_scale() -> None:
    assert tasks_at(STUDIES["main"], "small") == tuple(
        f"{robot}-{quality}"
        for robot in ("hopper", "halfcheetah")
        for quality in ("medium", "medium-replay", "medium-expert")
    )
    assert tasks_at(STUDIES["mazes"], "small") == ("maze2d-umaze", "maze2d-medium", "maze2d-large")
    assert tasks_at(STUDIES["prediction_error"], "small") == ("hopper-medium-expert",)
    assert {task for study in STUDIES.values() for task in tasks_at(study, "smoke")} == {"maze2d-umaze"}
    configs = {member.task: member.config for member in members_at(STUDIES["mazes"], "small")}
    assert configs["maze2d-large"] == "grid:large"


def test_the_transformer_is_asked_for_what_the_paper_asked_and_for_a_label_it_has_seen() -> None:
    asked = {
        member.overrides["policy.return_to_go"] for member in members("transformer", "paper", "halfcheetah-medium-v2")
    }
    assert asked == {"5.0", "0.5"}
