"""A sampler in one pass: the target by hand, a linear problem, and the number of network evaluations."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwm_jax.maths import diffusion
from dwm_jax.registry import make_model
from dwm_jax.types import Condition, Start
from dwm_jax.world_models.distillation import Distilled
from dwm_jax.world_models.dwm import DiffusionWorldModel
from tests.world_models.linear_system import GAMMA, ROWS, SEGMENTS, T, alone, compiled_quickly, first, no_action, train

K, N = 20, 10
DEVIATION, GAIN = 0.2, 0.3  # far from -1 and 1, where rewards are clipped
CALLS: list[int] = []


class Linear(nn.Module):
    """An affine map of all rows, the condition and a table of K biases; no more is needed for a Gaussian."""

    def setup(self) -> None:
        self.scale = self.param("scale", nn.initializers.ones, (K,))
        self.bias = self.param("bias", nn.initializers.zeros, (K, T, 3))
        self.of_action = self.param("of_action", nn.initializers.zeros, (K, 2, T, 3))

    def embed_condition(self, action_A: Any, return_to_go: Any, keep_return: Any) -> Any:
        return action_A

    def denoise(self, x_TD: Any, k: Any, condition_E: Any) -> Any:
        CALLS.append(1)
        k = jnp.asarray(k, jnp.int32) - 1
        return self.scale[k] * x_TD + self.bias[k] + jnp.tensordot(condition_E, self.of_action[k], 1)

    def __call__(self, x_TD: Any, k: Any, action_A: Any, return_to_go: Any) -> Any:
        return self.denoise(x_TD, k, self.embed_condition(action_A, return_to_go, 1.0))


@dataclass(frozen=True, kw_only=True)
class LinearWorldModel(DiffusionWorldModel):
    """DWM with that network."""

    @property
    def network(self) -> Any:
        return Linear()


def make_teacher(**overrides: Any) -> LinearWorldModel:
    settings = {
        "sequence_length": T,
        "num_diffusion_steps": K,
        "num_sampling_steps": N,
        "prediction": "velocity",
        "temperature": 1.0,
        "guidance_weight": 1.0,
        "observation_normalizer": "standard",
        "learning_rate": 1e-2,
        "ema_rate": 0.5,
    }
    return LinearWorldModel(**settings | overrides)


def exact(params: Any) -> Any:
    """The parameters of the exact denoiser of rows ~ N(GAIN a, DEVIATION^2) with a = a_t's first entry.

    With x_k = sqrt(A) x0 + sqrt(1 - A) eps the velocity is regressed on x_k: of the centred variables
    Cov(v, x) / Var(x) = sqrt(A (1 - A)) (1 - s^2) / (A s^2 + 1 - A), and E v = -sqrt(1 - A) m, E x = sqrt(A) m.
    """
    A = diffusion.cosine_schedule(K)
    slope = np.sqrt(A * (1 - A)) * (1 - DEVIATION**2) / (A * DEVIATION**2 + 1 - A)
    of_mean = -np.sqrt(1 - A) - slope * np.sqrt(A)
    of_action = np.zeros((K, 2, T, 3))
    of_action[:, 0] = (GAIN * of_mean)[:, None, None]
    found = {"scale": slope, "bias": np.zeros((K, T, 3)), "of_action": of_action}
    return {"params": {name: jnp.asarray(value, jnp.float32) for name, value in found.items()}}


def samples_by_hand(noise: float, action: float, temperature: float = 1.0) -> float:
    """What the deterministic sampler makes of one entry's noise: x = sqrt(A') x0 + sqrt(1 - A') eps, step by step."""
    A = diffusion.cosine_schedule(K)
    steps = [1, 3, 5, 7, 9, 12, 14, 16, 18, 20][::-1]
    assert tuple(steps[::-1]) == diffusion.strided_steps(K, N)
    x, mean = temperature * noise, GAIN * action
    for step, below in zip(steps, [*steps[1:], None], strict=True):
        a, lower = A[step - 1], 1.0 if below is None else A[below - 1]
        posterior = mean + np.sqrt(a) * DEVIATION**2 / (a * DEVIATION**2 + 1 - a) * (x - np.sqrt(a) * mean)
        eps = (x - np.sqrt(a) * posterior) / np.sqrt(1 - a)
        x = np.sqrt(lower) * posterior + np.sqrt(1 - lower) * eps
    return x


@pytest.fixture(scope="module")
def taught() -> tuple[Distilled, Any]:
    teacher = make_teacher()
    state = teacher.init(jax.random.key(0), ROWS)
    params = exact(state.params)
    model = Distilled(teacher=teacher)
    return model, model.taught_by(state._replace(params=params, ema=state.ema._replace(params=params)))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_teachers_rows_are_those_of_the_affine_map_worked_out_by_hand(taught: Any, temperature: float) -> None:
    teacher, noise_TD = (
        replace(taught[0].teacher, temperature=temperature),
        jax.random.normal(jax.random.key(1), (T, 3)),
    )
    wide, condition = (jnp.full(3, -9.0), jnp.full(3, 9.0)), Condition(jnp.array([0.7, 0.0]), jnp.zeros(()))
    found = jax.jit(teacher.rows_from_noise)(taught[1].teacher.params, noise_TD, jnp.array([0.1, 0.2]), wide, condition)
    expected = np.vectorize(samples_by_hand)(np.asarray(noise_TD), 0.7, temperature)
    expected[0, :2] = 0.1, 0.2  # the state that is given
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_loss_is_the_distance_of_one_pass_from_the_teachers_rows(taught: Any) -> None:
    model, state = taught
    segment = jax.tree.map(lambda leaf: leaf[0], SEGMENTS)
    key, a = jax.random.key(2), float(segment.actions[0, 0])
    noise_TD = np.asarray(jax.random.normal(key, (T, 3)))
    # The exact denoiser's x0 at k = K is its mean, m + sqrt(A) s^2 / (A s^2 + 1 - A) (z - sqrt(A) m).
    A = diffusion.cosine_schedule(K)[-1]
    first_TD = GAIN * a + np.sqrt(A) * DEVIATION**2 / (A * DEVIATION**2 + 1 - A) * (noise_TD - np.sqrt(A) * GAIN * a)
    rows_TD = np.vectorize(samples_by_hand)(noise_TD, a)
    errors = (rows_TD - first_TD) ** 2
    errors[0, :2] = 0
    found = jax.jit(model.segment_loss)(state.student.params, state.teacher, segment, key)
    np.testing.assert_allclose(found, errors.mean(), rtol=1e-3)


def test_after_training_one_pass_is_the_teachers_sampler_noise_by_noise(taught: Any) -> None:
    model, state = taught
    trained, losses, _ = train(model, state, 1_000)
    assert losses[-1] < 1e-3 * losses[0]
    student, teacher = model.inference(trained).params, state.teacher.params
    wide = (jnp.full(3, -9.0), jnp.full(3, 9.0))

    def both(key: Any) -> Any:
        noise_TD, s_O, a_A = (jax.random.normal(key, shape) for shape in ((T, 3), (2,), (2,)))
        condition = Condition(a_A / 3, jnp.zeros(()))
        rows = model.teacher.rows_from_noise(teacher, noise_TD, s_O, wide, condition)
        return rows[1:], model.one_pass(student, noise_TD, s_O, condition)[1:]

    rows, found = compiled_quickly(jax.vmap(both))(jax.random.split(jax.random.key(3), 100))
    np.testing.assert_allclose(found, rows, atol=0.02)
    assert np.std(found) > 0.75 * DEVIATION  # it draws, and does not foretell the mean


def test_the_rollout_is_that_one_pass_of_the_average_and_of_a_noise_of_its_own(taught: Any) -> None:
    model, state = taught
    state = state._replace(student=state.student._replace(params=jax.tree.map(jnp.zeros_like, state.student.params)))
    observation, action, key = jnp.array([0.1, -0.2]), jnp.array([0.5, 0.0]), jax.random.key(4)
    start = Start(observation, action, jnp.zeros(()))
    inference = model.inference(state)
    imagined = jax.jit(lambda: model.rollout(T - 1, GAMMA)(inference, start, no_action, key))()
    noise_TD = jax.random.normal(jax.random.split(key)[0], (T, 3))
    units = inference.observation_normalizer
    rows = model.one_pass(inference.params, noise_TD, units.normalize(observation), Condition(action, jnp.zeros(())))
    clipped = jnp.clip(rows[1:, :2], units.low, units.high)
    np.testing.assert_allclose(imagined.next_observations, units.denormalize(clipped), atol=1e-4)


@pytest.mark.parametrize("guidance_weight", [1.0, 1.2])
def test_a_trajectory_is_one_evaluation_of_the_network(guidance_weight: float) -> None:
    # The scan over N steps traces its body once: the evaluations are counted in the program, length of the scan times.
    teacher = make_teacher(guidance_weight=guidance_weight)
    state = teacher.init(jax.random.key(0), ROWS)
    start = Start(jnp.zeros(2), jnp.zeros(2), jnp.zeros(()))

    def evaluations(model: Any, inference: Any) -> int:
        CALLS.clear()
        program = jax.make_jaxpr(lambda key: model.rollout(T - 1, GAMMA)(inference, start, no_action, key))
        (length,) = {e.params["length"] for e in program(jax.random.key(0)).eqns if e.primitive.name == "scan"}
        branches = 1 if guidance_weight == 1 else 2
        return int(length) * len(CALLS) * (branches if model is teacher else 1)

    assert evaluations(teacher, state.ema) == N * (1 if guidance_weight == 1 else 2)
    student = Distilled(teacher=teacher)
    assert student.student.guidance_weight == 1
    assert evaluations(student, student.inference(student.taught_by(state))) == 1


def test_no_update_changes_the_teacher_and_the_student_begins_as_its_average(taught: Any) -> None:
    model, state = taught
    jax.tree.map(np.testing.assert_array_equal, state.student.ema, state.teacher)
    jax.tree.map(np.testing.assert_array_equal, state.student.params, state.teacher.params)
    batch, keys = first(4), jax.random.split(jax.random.key(5), 4)
    after, metrics = jax.jit(lambda state: model.update(state, batch, keys, jnp.array(9), alone))(state)
    jax.tree.map(np.testing.assert_array_equal, after.teacher, state.teacher)
    assert np.abs(after.student.params["params"]["scale"] - state.student.params["params"]["scale"]).max() > 0
    moved = jax.tree.map(lambda new, old: 0.5 * new + 0.5 * old, after.student.params, state.student.params)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), after.student.ema.params, moved)
    assert list(metrics) == ["world_model/loss"]


SMALL = {"sequence_length": T, "width": 8, "multipliers": (1,), "num_diffusion_steps": 5, "num_sampling_steps": 3}


@pytest.mark.parametrize("name", ["dwm", "autoregressive"])
def test_the_registry_distils_where_asked_with_the_reachable_return_beside_it(name: str) -> None:
    settings = {key: value for key, value in SMALL.items() if name == "dwm" or key != "sequence_length"}
    plain: Any = make_model(name, **settings, reachable_quantile=0.9)
    model: Any = make_model(name, **settings, reachable_quantile=0.9, distil=True)
    assert not isinstance(plain.model, Distilled)
    assert isinstance(model.model, Distilled)
    for of in ("needs_policy", "sequence_length", "longest_horizon"):
        assert getattr(model, of) == getattr(plain, of)
    state = plain.init(jax.random.key(0), ROWS)
    pupil = model.taught_by(state)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), ROWS))
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, pupil)
    pair = ROWS.observations[0], ROWS.actions[0]
    asked = model.reachable_return(model.inference(pupil), *pair), plain.reachable_return(plain.inference(state), *pair)
    np.testing.assert_array_equal(*asked)
    start = Start(*map(jnp.asarray, pair), jnp.zeros(()))

    def act(step: Any, observation: Any, key: Any) -> Any:
        return jnp.zeros(2)

    imagined = jax.eval_shape(
        lambda: model.alternatives(2, GAMMA, 3)(model.inference(pupil), start, act, jax.random.key(0))
    )
    assert imagined.rewards.shape == (3, 2)
