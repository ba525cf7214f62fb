"""The methods beside the grid: a planner, augmentation, and a world model that is fine-tuned along with its policy."""

import csv
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.data import dataset as data
from dwm_jax.imagination import sources
from dwm_jax.imagination.relabelling import make_relabelling_source
from dwm_jax.learners.iql import IQL
from dwm_jax.learners.policies import Policies, fit_units
from dwm_jax.maths.value_expansion import expand_vanilla
from dwm_jax.phases.policy_source import make_pairs
from dwm_jax.phases.policy_updates import PolicyUpdates
from dwm_jax.registry import LEARNERS, METHODS
from dwm_jax.runtime import parallel
from dwm_jax.train import train
from dwm_jax.types import Transition
from dwm_jax.workdir import load_recording
from tests import tiny

METHODS_BESIDE = "DD,DA-TD3BC,DWM-IQL+RTG"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods") / "run"
    train(tiny.config(methods=METHODS_BESIDE), folder)
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "results.csv").open()))


def test_every_method_is_evaluated_and_tabulated(finished: Path) -> None:
    count = {name: sum(row["method"] == name for row in rows(finished)) for name in METHODS_BESIDE.split(",")}
    # 2 seeds x 1 episode; learners at updates 10 and 20, the planner once.
    assert count == {"DD": 2, "DA-TD3BC": 4, "DWM-IQL+RTG": 4}
    summary = (finished / "summary.md").read_text()
    assert all(f"| {name} | 2 | 20 |" in summary for name in METHODS_BESIDE.split(","))


def test_a_finished_planner_does_not_plan_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (finished / "results.csv").read_text()

    def refuse(*arguments: object) -> None:
        raise AssertionError("evaluated again")

    monkeypatch.setattr("dwm_jax.results.evaluator.Evaluator.__call__", refuse)
    train(tiny.config(methods=METHODS_BESIDE), finished)
    assert (finished / "results.csv").read_text() == before


def test_a_world_model_by_itself_is_trained_measured_and_found_by_the_policies_that_want_it(tmp_path: Path) -> None:
    train(tiny.config(methods="DWM,OneStep"), tmp_path / "models")
    assert not (tmp_path / "models" / "results.csv").exists()
    assert not (tmp_path / "models" / "policies").exists()
    measured = json.loads((tmp_path / "models" / "diagnostics.json").read_text())
    errors = measured["prediction_error"]
    assert errors.keys() == {"dwm", "one_step, told the recorded actions"}
    summary = (tmp_path / "models" / "summary.md").read_text()
    assert "imagined states, step H" not in summary  # without critics nothing values them
    for label, error in errors.items():
        at_starts = measured["prediction_error_at_starts"][label]["observation"][-1]
        shown = [*(error["observation"][at] for at in (0, -1)), at_starts, *(error["reward"][at] for at in (0, -1))]
        cells = [f"{value:.3g}" for value in shown]
        assert f"| {label} | {' | '.join(cells)} |" in summary
    before = {path: path.read_bytes() for path in tmp_path.glob("world_models/*/metrics.jsonl")}
    assert len(before) == 2
    # What only sampling reads makes no other model of it.
    sampled_otherwise = {"world_models__dwm__num_sampling_steps": 1, "world_models__dwm__guidance_weight": 2.0}
    train(tiny.config(methods="DWM-TD3BC", **sampled_otherwise), tmp_path / "policies")
    assert {path: path.read_bytes() for path in tmp_path.glob("world_models/*/metrics.jsonl")} == before


def test_generated_transitions_are_mixed_in_by_the_fraction_asked_for(finished: Path) -> None:
    config = tiny.config(policy__generated_fraction=0.25)
    recording = load_recording(config)[1]
    models = {"transition_diffusion": tiny.pretrain("transition_diffusion", config, recording, finished)}
    learner = LEARNERS["td3_bc"](observation_size=4, action_size=2, num_updates=20, **config.learners.td3_bc.to_dict())
    units = fit_units(learner, recording.dataset)
    pairs = make_pairs(tiny.run_of(config, recording), METHODS["DA-TD3BC"], units, models)
    # 1,200 recorded steps are three quarters of 1,600; a tenth of the batch is drawn from 178 repeated starts.
    assert len(pairs.rows) == 1_600 + 178
    np.testing.assert_array_equal(pairs.dataset.observations[:1200], recording.dataset.observations[:1200])


def test_appended_transitions_are_episodes_of_one_step() -> None:
    recorded = data.Dataset(
        observations=np.zeros((3, 1), np.float32),
        actions=np.zeros((3, 1), np.float32),
        rewards=np.zeros(3, np.float32),
        returns_to_go=np.zeros(3, np.float32),
        last=np.full(3, 2, np.int32),
        terminated=np.zeros(3, bool),
    )
    made_up = Transition(
        observation=np.array([[1.0], [3.0]], np.float32),
        action=np.array([[0.1], [0.3]], np.float32),
        reward=np.array([10.0, 30.0], np.float32),
        next_observation=np.array([[2.0], [4.0]], np.float32),
        terminated=np.array([False, True]),
    )
    both = data.append_transitions(recorded, made_up)
    np.testing.assert_array_equal(data.transition_rows(both), [0, 1, 3, 5])
    steps = [data.recorded_steps(jax.tree.map(jnp.asarray, both), jnp.array(row), 1, 0.9) for row in (3, 5)]
    np.testing.assert_array_equal([step.next_observations[0, 0] for step in steps], [2, 4])
    np.testing.assert_array_equal([step.rewards[0] for step in steps], [10, 30])
    np.testing.assert_allclose([step.discounts[0] for step in steps], [0.9, 0.0], rtol=1e-6)
    np.testing.assert_allclose(both.actions[[3, 5], 0], [0.1, 0.3])
    assert {array.dtype for array in both} == {array.dtype for array in recorded}


# ------------------------------------------------------------------------------------------- relabelling


class Content(IQL):
    """Everything is worth 3,000 of the learner's units, so every label is raised."""

    def value(self, state, observation_O):
        return jnp.asarray(3000.0)


class Recorder:
    """A world model that learns nothing, and remembers the labels of the last segments it saw."""

    sequence_length = 2

    @staticmethod
    def inference(state):
        return state["params"]

    @staticmethod
    def update(state, segments, keys, step, average):
        return state | {"labels": segments.return_to_go, "starts": segments.observations[:, 0]}, {}


def test_fine_tuning_starts_after_the_warm_up_on_labels_the_value_has_raised() -> None:
    config = tiny.config()
    recording = load_recording(config)[1]
    learner = Content(observation_size=4, action_size=2, num_updates=20)
    units = fit_units(learner, recording.dataset)
    pairs = make_pairs(tiny.run_of(config, recording), METHODS["IQL"], units, {})

    class Trained:
        model = Recorder()
        state = {"params": jnp.zeros(()), "labels": jnp.zeros(8), "starts": jnp.zeros((8, 4))}  # noqa: RUF012

    source = make_relabelling_source(
        sources.make_recorded_source(lambda: pairs, 1, 0.99),
        learner,
        Trained(),
        pairs.rows,
        batch_size=8,
        warm_up=2,
        gamma=0.99,
        return_scale=recording.return_scale,
    )
    states_S = jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 1))
    policies = Policies(states_S, units, source.init(states_S))
    learn = PolicyUpdates(learner, source, expand_vanilla, 16, jax.random.split(jax.random.key(1), 1))
    one_by_one = parallel.make_dispatch(learn, 1)
    policies, data_ = (parallel.replicate(tree) for tree in source.make(policies, 0))
    labels, starts = [], []
    for step in range(3):
        policies, _ = one_by_one(policies, data_, step)
        memory = parallel.unreplicate(policies).memory_S
        labels.append(memory["labels"][0])
        starts.append(memory["starts"][0])
    np.testing.assert_array_equal(labels[:2], np.zeros((2, 8)))
    # Updates 1 and 2 are the warm-up; update 3 sees g~ = (r + 0.99 * 3000 / reward scale) / return scale.
    flat = recording.dataset
    found = [int(np.flatnonzero((flat.observations == start).all(axis=1))[0]) for start in starts[2]]
    value = 0.99 * 3000 / float(units.reward_scale)
    np.testing.assert_allclose(labels[2], (flat.rewards[found] + value) / recording.return_scale, rtol=1e-5)


def test_only_fine_tuned_world_models_differ_from_the_pretrained_one(finished: Path) -> None:
    arrays = tiny.final_arrays(finished)
    tuned = [array for name, array in arrays.items() if name.startswith("DWM-IQL+RTG") and "memory_S" in name]
    pretrained = tiny.final_arrays(finished.parent / "world_models")
    dwm = [array for name, array in pretrained.items() if name.startswith("world model dwm")]
    assert len(tuned) == len(dwm) > 0
    # Warm-up is a tenth of 20 updates; the rest fine-tune each seed's own copy.
    floats = [(seeds, one) for seeds, one in zip(tuned, dwm, strict=True) if one.ndim >= 2]
    assert any(np.abs(seeds[0] - one).max() > 1e-6 for seeds, one in floats)
    assert any(np.abs(seeds[0] - seeds[1]).max() > 1e-6 for seeds, _ in floats)
