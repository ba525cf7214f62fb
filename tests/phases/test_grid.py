"""Every learner with every source of trajectories: it trains, and its target is the one worked out by hand."""

from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

from dwm_jax.learners.policies import Policies, fit_units, make_choose_action
from dwm_jax.maths.value_expansion import choose_expansion
from dwm_jax.phases.policy_source import make_source
from dwm_jax.phases.policy_updates import PolicyUpdates
from dwm_jax.registry import LEARNERS, METHODS, Learning, models_needed
from dwm_jax.runtime import parallel
from dwm_jax.workdir import load_recording
from tests import tiny

CELLS = [
    name
    for name, method in METHODS.items()
    if isinstance(method, Learning) and method.model != "transition_diffusion" and not method.relabels_returns
]
# Of ReBRAC, whose update is TD3+BC's but for a penalty that asks no source, one of each kind: recorded steps, a
# generated sequence, a roll-out of the policy.
TRAINED = [name for name in CELLS if name not in ("T-ReBRAC", "AD-ReBRAC")]
NUM_UPDATES = 200
KEY = jax.random.key(11)


def config(learner="td3_bc"):
    # Fresh imagination everywhere: a pool would keep less than the whole trajectory.
    return tiny.config(
        methods="TD3+BC", policy__imagined_per_pair=0, policy__lambda_=dict.fromkeys(LEARNERS, 1.0) | {"iql": 0.8}
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """World models by name, pretrained when first asked for."""
    folder = tmp_path_factory.mktemp("grid")

    def pretrain(name, distil=False):
        settings = config()
        settings.world_models.dwm.distil = distil
        return tiny.pretrain(name, settings, recording(), Path(folder) / "run")

    return cache(pretrain)


@cache
def recording():
    return load_recording(config())[1]


@cache
def untrained(name):
    """A learner of the grid and its first state."""
    settings = config().learners[name].to_dict()
    learner = LEARNERS[name](observation_size=4, action_size=2, num_updates=NUM_UPDATES, **settings)
    return learner, jax.jit(learner.init)(jax.random.key(0))


def mlp(params, x):
    """Three dense layers; between them layer norm, where there are parameters of one, and ReLU."""
    params = jax.tree.map(np.asarray, params)
    for i in range(2):
        x = x @ params[f"Dense_{i}"]["kernel"] + params[f"Dense_{i}"]["bias"]
        if norm := params.get(f"LayerNorm_{i}"):
            x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-6)
            x = x * norm["scale"] + norm["bias"]
        x = np.maximum(x, 0)
    return x @ params["Dense_2"]["kernel"] + params["Dense_2"]["bias"]


def value_by_hand(learner, settings, before, after, keys, next_pairs):
    """(observations (n, O), index of their pair in the batch) -> values (n,)."""
    if learner in ("iql", "pql"):
        # The value as just updated.
        return lambda s, b: mlp(after.online.value["params"]["MLP_0"], s)[:, 0]

    def action(s, b):
        noise = np.asarray(jax.random.normal(keys[b], (2,))) * settings.policy_noise
        noise = np.clip(noise, -settings.noise_clip, settings.noise_clip)
        return np.clip(np.tanh(mlp(before.target.actor["params"]["MLP_0"], s)) + noise, -1, 1)

    def value(s, b):
        sa = np.concatenate([s, action(s, b)], axis=1)
        critics = [jax.tree.map(lambda leaf, j=j: leaf[j], before.target.critics) for j in (0, 1)]
        value = np.minimum(*(mlp(critic["params"]["MLP_0"], sa)[:, 0] for critic in critics))
        if learner == "rebrac" and next_pairs.is_known[b]:
            distance = (action(next_pairs.observation[b : b + 1], b) - next_pairs.action[b]) ** 2
            value -= settings.critic_penalty * distance.sum()
        return value

    return value


def target_by_hand(trajectory, values, lambda_):
    """G_H = V(s_H);  G_h = r_h + d_h ((1 - lambda) V(s_{h+1}) + lambda G_{h+1})."""
    g = values[-1]
    for r, d, v in zip(trajectory.rewards[::-1], trajectory.discounts[::-1], values[::-1], strict=True):
        g = r + d * ((1 - lambda_) * v + lambda_ * g)
    return g


class Telling:
    """A learner whose metrics also tell what an update was given, and what it made of it."""

    def __init__(self, learner):
        self._learner = learner

    def __getattr__(self, name):
        return getattr(self._learner, name)

    def update(self, state, batch, expand, keys_B, step, average):
        after, metrics = self._learner.update(state, batch, expand, keys_B, step, average)
        return after, metrics | {"before": state, "after": after, "drawn": (batch, jax.random.key_data(keys_B))}


@pytest.mark.parametrize(("name", "distil"), [*((name, False) for name in TRAINED), ("DWM-TD3BC", True)])
def test_cell_trains_on_the_target_its_imagination_implies(name, distil, models):
    settings, method = config(), METHODS[name]
    learner, start = untrained(method.learner)
    trained = {model: models(model, distil) for model in models_needed([method])}
    units = fit_units(learner, recording().dataset)
    source = make_source(tiny.run_of(settings, recording()), name, method, learner, units, trained)
    on_device = source.make(Policies((), units), 0)[1]
    lambda_, batch_size = settings.policy.lambda_[method.learner], settings.policy.batch_size
    on_device = parallel.replicate(on_device)
    learn = PolicyUpdates(Telling(learner), source, choose_expansion(lambda_), batch_size, KEY[None])

    def updates(state, data, steps_U):
        after, _, trace = learn.learn_inside(state, (), KEY, *data, steps_U)
        return after, trace

    trace = parallel.make_dispatch(updates, NUM_UPDATES)(parallel.replicate(start), on_device, 0)[1]
    before, after, (batch, key_data_B) = (
        jax.tree.map(lambda leaf: np.asarray(leaf[-1]), trace.pop(key)) for key in ("before", "after", "drawn")
    )

    # ---- it learns something finite
    for key, values in trace.items():
        assert np.isfinite(values).all(), key
    for leaf_start, leaf in zip(jax.tree.leaves(start.online), jax.tree.leaves(after.online), strict=True):
        assert np.abs(leaf - np.asarray(leaf_start)).max() > 1e-5

    # ---- the last update's batch, its imagined trajectories, and their targets by hand
    imagined_B, next_pairs_B = batch.trajectory, batch.next_pair
    horizon = 1 if method.model is None and not method.looks_ahead else settings.policy.horizon
    assert imagined_B.rewards.shape == (batch_size, horizon)
    keys_B = jax.random.wrap_key_data(key_data_B)
    value = value_by_hand(method.learner, settings.learners[method.learner], before, after, keys_B, next_pairs_B)
    trajectories = [jax.tree.map(lambda leaf, b=b: leaf[b], imagined_B) for b in range(batch_size)]
    targets = [target_by_hand(t, value(t.next_observations, b), lambda_) for b, t in enumerate(trajectories)]
    np.testing.assert_allclose(trace["critic/target"][-1], np.mean(targets), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "steps"), [("DWM-TD3BC", 2), ("DAWM-TD3BC", 2), ("OneStep-PQL", 1), ("TD3+BC-H", 3), ("TD3+BC", 1)]
)
def test_policies_see_as_many_steps_as_their_own_world_model_is_trusted_for(name, steps, models, tmp_path):
    settings, method = config(), METHODS[name]
    settings.policy.largest_error = 0.3
    (tmp_path / "horizons.json").write_text('{"dwm": 2, "ensemble": 1}')
    learner, state = untrained(method.learner)
    trained = {model: models(model) for model in models_needed([method])}
    units = fit_units(learner, recording().dataset)
    source = make_source(tiny.run_of(settings, recording(), tmp_path), name, method, learner, units, trained)
    on_device = jax.device_put(source.make(Policies((), units), 0)[1])

    def entry():
        drawn = source.draw((), on_device, 0, make_choose_action(learner, state, units), KEY)
        return source.complete(on_device.pairs, 0, drawn, KEY)

    assert jax.eval_shape(entry).trajectory.rewards.shape == (steps,)


def test_dawm_without_a_share_is_dwm_bit_for_bit(models):
    settings = tiny.config(methods="DAWM-TD3BC", policy__inferred_share=0.0)
    trained = {name: models(name) for name in models_needed([METHODS["DAWM-TD3BC"]])}
    assert trained.keys() == {"dwm", "inverse_dynamics"}
    learner = LEARNERS["td3_bc"](
        observation_size=4, action_size=2, num_updates=10, **settings.learners.td3_bc.to_dict()
    )
    units = fit_units(learner, recording().dataset)
    start = Policies(jax.jit(jax.vmap(learner.init))(KEY[None]), units)
    states = []
    for name in ("DWM-TD3BC", "DAWM-TD3BC"):
        source = make_source(tiny.run_of(settings, recording()), name, METHODS[name], learner, units, trained)
        learn = PolicyUpdates(learner, source, choose_expansion(1.0), 16, KEY[None])
        policies, on_device = (parallel.replicate(tree) for tree in source.make(start, 0))
        states.append(parallel.unreplicate(parallel.make_dispatch(learn, 10)(policies, on_device, 0)[0]))
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_the_grid_has_fifteen_cells_of_the_paper_those_of_rebrac_and_dawm_and_learners_that_look_ahead():
    ahead = {name for name in CELLS if METHODS[name].looks_ahead}
    assert ahead == {"TD3+BC-H", "IQL-H", "PQL-H", "ReBRAC-H"}
    assert {"ReBRAC", "DWM-ReBRAC", "OneStep-ReBRAC", "T-ReBRAC", "AD-ReBRAC"} <= set(CELLS)
    infer_actions = {name for name in CELLS if METHODS[name].infers_actions}
    assert infer_actions == {"DAWM-TD3BC", "DAWM-IQL", "DAWM-PQL", "DAWM-ReBRAC"}
    assert len(CELLS) == 15 + 5 + len(ahead) + len(infer_actions)
    assert {(METHODS[name].learner, METHODS[name].model) for name in CELLS} == {
        (learner, model)
        for learner in LEARNERS
        for model in (
            None,
            "dwm",
            "ensemble" if learner == "pql" else "one_step",
            "transformer",
            "autoregressive",
        )
    }
