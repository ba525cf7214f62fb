"""A trained diffusion world model's sampler, folded into one pass of its network."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dwm_jax.maths import diffusion
from dwm_jax.networks.optimization import start_ema
from dwm_jax.types import Array, Average, Condition, Key, Metrics, PyTree, Segment
from dwm_jax.world_models import dwm, row_diffusion
from dwm_jax.world_models.base import Rollout, TrainingRows, WorldModel
from dwm_jax.world_models.row_diffusion import make_mean_loss


class State(NamedTuple):
    teacher: dwm.InferenceState  # as it was trained; no update changes it
    student: row_diffusion.State


@dataclass(frozen=True, kw_only=True)
class Distilled(WorldModel):
    """A diffusion world model that maps noise to a trajectory in one pass: x_0 = f(z, s_t, a_t, g_t), z ~ N(0, I).

    The teacher is the same model, trained. Its deterministic sampler, with guidance, steps and temperature as they are
    set, makes rows x_0(z) of a noise z; the student learns them,

        f(z) = sqrt(abar_K) z - sqrt(1 - abar_K) v(z, K),      loss = mean over entries of  (x_0(z) - f(z))^2,

    with v the output of the teacher's network, whose weights it starts from; noises are drawn anew in every update, for
    the conditions of recorded segments. Row 0's observation is given, and adds zero. Since z decides everything, f(z)
    is a draw of what might happen, not the mean of it.

    The student is the teacher's class with N = 1, w = 1 and velocities: its sampler is `diffusion.sample` in one step.
    Source: Luhman & Luhman 2021 (knowledge distillation of a deterministic sampler); the teacher's way from noise to
    rows is Song et al. 2021's.
    """

    is_return_conditioned = True

    teacher: dwm.DiffusionWorldModel

    @property
    def student(self) -> dwm.DiffusionWorldModel:
        return replace(self.teacher, num_sampling_steps=1, guidance_weight=1.0, prediction="velocity")

    @property
    def sequence_length(self) -> int:
        return self.teacher.sequence_length

    @property
    def needs_policy(self) -> bool:  # type: ignore[override]
        return self.teacher.needs_policy

    @property
    def longest_horizon(self) -> int | None:
        return self.teacher.longest_horizon

    def init(self, key: Key, rows: TrainingRows) -> State:
        """A student of an untrained teacher, whose shapes restore a checkpoint; training starts from `taught_by`."""
        return self.taught_by(self.teacher.init(key, rows))

    def taught_by(self, teacher_state: row_diffusion.State) -> State:
        """The state before the first update, given what the teacher's training left."""
        teacher = teacher_state.ema
        params, ema_params = start_ema(teacher.params), start_ema(teacher.params)
        ema = teacher._replace(params=ema_params)
        return State(teacher, row_diffusion.State(params, jax.jit(self.teacher.optimizer.init)(params), ema))

    def update(
        self, state: State, segments: Segment, keys: Array, step: Array, average: Average
    ) -> tuple[State, Metrics]:
        loss = make_mean_loss(self.segment_loss, state.teacher, segments, keys)
        student, metrics = self.teacher.descend(loss, state.student, step, average)
        return state._replace(student=student), metrics

    def segment_loss(self, params: PyTree, teacher: dwm.InferenceState, segment: Segment, key: Key) -> Array:
        """The student's error for one segment's condition and one noise: ()."""
        bounds = dwm.range_of_rows(teacher, self.teacher.terminations)
        observation_O = teacher.observation_normalizer.normalize(segment.observations[0])
        condition = Condition(segment.actions[0], segment.return_to_go)
        noise_TD = jax.random.normal(key, (self.sequence_length, bounds[0].shape[0]))
        target_TD = self.teacher.rows_from_noise(teacher.params, noise_TD, observation_O, bounds, condition)
        weight_TD = jnp.ones_like(noise_TD).at[0, : observation_O.shape[0]].set(0)
        return jnp.mean(weight_TD * (target_TD - self.one_pass(params, noise_TD, observation_O, condition)) ** 2)

    def one_pass(self, params: PyTree, noise_TD: Array, observation_O: Array, condition: Condition) -> Array:
        """f(z): (T, D)."""
        x_TD = diffusion.overwrite_first_observation(noise_TD, observation_O)
        last, alpha_bar = self.teacher.num_diffusion_steps, self.teacher.alphas_bar[-1]
        velocity_TD = self.teacher.network.apply(params, x_TD, jnp.asarray(last), *condition)
        return jnp.sqrt(alpha_bar) * x_TD - jnp.sqrt(1 - alpha_bar) * velocity_TD

    def inference(self, state: State) -> dwm.InferenceState:
        return self.student.inference(state.student)

    def rollout(self, horizon: int, gamma: float) -> Rollout:
        return self.student.rollout(horizon, gamma)
