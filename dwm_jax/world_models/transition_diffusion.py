"""Synthetic experience: an unconditional diffusion over transitions, for learners to train on beside the data."""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.maths.normalizers import FITTERS, Normalizer
from dwm_jax.networks.optimization import start_ema
from dwm_jax.runtime.settings import require
from dwm_jax.types import Array, Average, Condition, Key, Metrics, PyTree, Segment, Transition
from dwm_jax.world_models.base import Generator, Training, TrainingRows
from dwm_jax.world_models.row_diffusion import Denoiser, State, make_mean_loss


class InferenceState(NamedTuple):
    """What generating needs: the EMA parameters are the model."""

    params: PyTree
    normalizer: Normalizer  # of rows (s, a, r, s' - s, terminated)
    observation_low: Array  # (O,) range of the data
    observation_high: Array  # (O,)


@dataclass(frozen=True, kw_only=True)
class TransitionDiffusion(Denoiser, Generator):
    """p(s, a, r, s', terminated): one row x in R^{2 O + A + 2} per transition, generated without a condition.

    A row holds the change s' - s in the place of s', each entry normalised by itself. SynthER models s' directly;
    where a step moves the state by a small part of its spread, an error that is small against s' is large against
    s' - s, which is what a critic learns from.

    The network is the temporal U-Net at T = 1: convolutions see a single tap and no level halves, which makes it a
    residual MLP of the widths width * multipliers. `terminated` is an entry like the others, 0 or 1, true above one
    half. Everything generated lies within the range of the data, and in data without a termination that range is 0.

    Source: Lu et al. 2023 (SynthER), section 3; DWM's appendix uses it as the baseline of data augmentation.
    """

    title = "DA"
    training = Training(num_updates=100_000, batch_size=256)

    # A whole distribution needs more steps than the conditional model's 5, and few sampling steps narrow what is
    # generated: a Gaussian entry keeps 0.81 of its standard deviation at N = 10, 0.93 at 32, 0.97 at 64.
    num_diffusion_steps: int = 32
    num_sampling_steps: int = 32
    learning_rate: float = 3e-4
    temperature: float = 1.0  # below 1 the sampler's noise narrows what is generated further
    normalizer: str = "cdf"  # or "min_max", "standard": for every entry
    condition_dropout: float = field(default=0.0, init=False)  # there is no condition
    guidance_weight: float = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "normalizer", self.normalizer in FITTERS, f"one of {', '.join(FITTERS)}")
        # The group norm sees width / 8 numbers at T = 1; of one it keeps nothing, of two their order.
        require(self, "width", self.width >= 32, "at least 32 for a single row")

    @property
    def sequence_length(self) -> int:
        return 2

    def init(self, key: Key, rows: TrainingRows) -> State:
        # The rows do not say which of them terminated, and only the range matters: 0 and 1 by turns.
        terminated = np.arange(len(rows.rewards)) % 2 * rows.absorbing
        changes = rows.next_observations - rows.observations
        x = np.column_stack([rows.observations, rows.actions, rows.rewards, changes, terminated])
        params = self.init_denoiser(key, jnp.zeros((1, x.shape[1])), Condition())
        ema = InferenceState(
            params=start_ema(params),
            normalizer=FITTERS[self.normalizer](x),
            observation_low=jnp.asarray(rows.states.min(axis=0)),
            observation_high=jnp.asarray(rows.states.max(axis=0)),
        )
        return State(params, jax.jit(self.optimizer.init)(params), ema)

    def segment_loss(self, params: PyTree, units: InferenceState, segment: Segment, key: Key) -> Array:
        """The denoising loss of the transition that a segment starts with: ()."""
        # The next state is never masked: a segment starts at an action, and the state it led to was recorded.
        observation_O, next_observation_O = segment.observations[0], segment.observations[1]
        ends = segment.terminated[:1].astype(jnp.float32)
        x_D = [observation_O, segment.actions[0], segment.rewards[:1], next_observation_O - observation_O, ends]
        x_1D = units.normalizer.normalize(jnp.concatenate(x_D))[None]
        return self.denoising_loss(params, x_1D, jnp.ones(1), 0, Condition(), key)

    def update(
        self, state: State, segments: Segment, keys: Array, step: Array, average: Average
    ) -> tuple[State, Metrics]:
        return self.descend(make_mean_loss(self.segment_loss, state.ema, segments, keys), state, step, average)

    def inference(self, state: State) -> InferenceState:
        return state.ema

    def generate(self, model: InferenceState, key: Key) -> Transition:
        low_D, high_D = model.normalizer.low, model.normalizer.high
        x_1D = self.sample_rows(model.params, jnp.zeros(0), 1, (low_D, high_D), Condition(), key)
        observation_size = model.observation_low.shape[0]
        action_size = low_D.shape[0] - 2 * observation_size - 2
        ends = np.cumsum([observation_size, action_size, 1, observation_size])
        x_D = model.normalizer.denormalize(x_1D)[0]
        observation_O, action_A, reward_1, change_O, terminated_1 = jnp.split(x_D, ends)

        def recorded_range(states_O: Array) -> Array:
            return jnp.clip(states_O, model.observation_low, model.observation_high)

        observation_O = recorded_range(observation_O)
        return Transition(
            observation=observation_O,
            action=jnp.clip(action_A, -1, 1),
            reward=reward_1[0],
            next_observation=recorded_range(observation_O + change_O),
            terminated=terminated_1[0] > 0.5,
        )
