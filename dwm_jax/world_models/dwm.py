"""The diffusion world model: one conditional diffusion over T rows (s, r), all H < T steps generated at once.

With terminations a row is (s, r, c): c = 1 while the episode goes on, -1 from the transition on that ended it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dwm_jax.maths.normalizers import FITTERS, Normalizer
from dwm_jax.maths.returns import discounts_until_end
from dwm_jax.networks.optimization import start_ema
from dwm_jax.runtime.settings import require
from dwm_jax.types import Array, Average, ChooseAction, Condition, Key, Metrics, PyTree, Segment, Start, Trajectory
from dwm_jax.world_models.base import ReturnConditioned, Rollout, Training, TrainingRows
from dwm_jax.world_models.row_diffusion import Denoiser, State, make_mean_loss


class InferenceState(NamedTuple):
    """What sampling needs: the EMA parameters are the model."""

    params: PyTree
    observation_normalizer: Normalizer
    reward_normalizer: Normalizer


def rows_from_segment(units: InferenceState, segment: Segment, terminations: bool) -> Array:
    """The rows that stand for a recorded segment: (s, r) or, with terminations, (s, r, c), normalised, (T, D)."""
    observations_TO = units.observation_normalizer.normalize(segment.observations)
    rewards_T1 = units.reward_normalizer.normalize(segment.rewards[:, None])
    goes_on_T1 = [jnp.where(segment.terminated, -1.0, 1.0)[:, None]] if terminations else []
    return jnp.concatenate([observations_TO, rewards_T1, *goes_on_T1], axis=1)


def range_of_rows(units: InferenceState, terminations: bool) -> tuple[Array, Array]:
    """Lowest and highest value of every entry of a normalised row: 2 x (D,)."""
    goes_on = jnp.ones(int(terminations))
    low_D = jnp.concatenate([units.observation_normalizer.low, units.reward_normalizer.low, -goes_on])
    high_D = jnp.concatenate([units.observation_normalizer.high, units.reward_normalizer.high, goes_on])
    return low_D, high_D


def trajectory_from_rows(
    units: InferenceState, x_TD: Array, horizon: int, gamma: float, termination_threshold: float
) -> Trajectory:
    """The H < T steps that normalised rows stand for, raw; they end where c is below the threshold, if rows have c.

    Row h holds s_{t+h}, r_{t+h} and c_{t+h}: step h leads from row h to the state in row h + 1.
    """
    observation_size = units.observation_normalizer.low.shape[0]
    observations_TO, rewards_T1, goes_on = jnp.split(x_TD, [observation_size, observation_size + 1], axis=1)
    return Trajectory(
        next_observations=units.observation_normalizer.denormalize(observations_TO[1 : horizon + 1]),
        rewards=units.reward_normalizer.denormalize(rewards_T1[:horizon])[:, 0],
        discounts=discounts_until_end(jnp.any(goes_on[:horizon] < termination_threshold, axis=1), gamma),
    )


@dataclass(frozen=True, kw_only=True)
class DiffusionWorldModel(Denoiser, ReturnConditioned):
    """DWM (section 3.1, algorithm 1): rows x in R^{T x (O+1)} given s_t, a_t and the return-to-go.

    Trained on the masked denoising loss with the return dropped with probability `condition_dropout`;
    sampled with classifier-free guidance along the strided schedule.

    With `terminations` (not in the paper) a row has one entry more: c_h = 1 while the episode goes on and -1 from the
    transition on that ended it. An imagined step ends the task where c_h < `termination_threshold`; its discount and
    all later ones are 0. Without, nothing imagined ever ends. Precedents: PolyGRAD (Rigter et al. 2024) and SynthER
    (Lu et al. 2023), whose generated rows hold the termination too.
    """

    title = "DWM"
    training = Training(num_updates=2_000_000, batch_size=64)

    sequence_length: int = 8  # T; imagines at most T - 1 steps
    observation_normalizer: str = "cdf"  # or "min_max", "standard"; rewards always go by min-max
    terminations: bool = False  # whether rows say that the task ended
    # In (-1, 1). Few sampling steps leave c between its two values, and terminations are rare: at 0, halfway, more are
    # missed than invented.
    termination_threshold: float = 0.0
    # Whether its sampler, as it is set, is folded into one pass of the network once it is trained
    # (`distillation.Distilled`), and by how many updates. Not measured here at the paper's sizes.
    distil: bool = False
    distil_updates: int = 500_000

    def __post_init__(self) -> None:
        Denoiser.__post_init__(self)
        ReturnConditioned.__post_init__(self)
        require(self, "sequence_length", self.sequence_length >= 2, "at least 2 rows")
        known = self.observation_normalizer in FITTERS
        require(self, "observation_normalizer", known, f"one of {', '.join(FITTERS)}")
        require(self, "termination_threshold", -1 < self.termination_threshold < 1, "between -1 and 1")

    @property
    def longest_horizon(self) -> int | None:
        return self.sequence_length - 1

    def init(self, key: Key, rows: TrainingRows) -> State:
        observation_size, action_size = rows.observations.shape[1], rows.actions.shape[1]
        x_TD = jnp.zeros((self.sequence_length, observation_size + 1 + int(self.terminations)))
        params = self.init_denoiser(key, x_TD, Condition(jnp.zeros(action_size), jnp.zeros(())))
        rewards_1 = rows.rewards_with_padding[:, None]
        normalizers = (FITTERS[self.observation_normalizer](rows.states), FITTERS["min_max"](rewards_1))
        return State(params, jax.jit(self.optimizer.init)(params), InferenceState(start_ema(params), *normalizers))

    def update(
        self, state: State, segments: Segment, keys: Array, step: Array, average: Average
    ) -> tuple[State, Metrics]:
        return self.descend(make_mean_loss(self.segment_loss, state.ema, segments, keys), state, step, average)

    def segment_loss(self, params: PyTree, units: InferenceState, segment: Segment, key: Key) -> Array:
        """The denoising loss of one segment's rows: ()."""
        return self.denoising_loss(
            params,
            rows_from_segment(units, segment, self.terminations),
            segment.mask,
            segment.observations.shape[1],
            Condition(segment.actions[0], segment.return_to_go),
            key,
        )

    def inference(self, state: State) -> InferenceState:
        return state.ema

    def rollout(self, horizon: int, gamma: float) -> Rollout:
        self.refuse_horizon(horizon)

        def imagine(model: InferenceState, start: Start, choose_action: ChooseAction, key: Key) -> Trajectory:
            del choose_action  # the whole future is generated at once
            x_TD = self.sample_rows(
                model.params,
                model.observation_normalizer.normalize(start.observation),
                self.sequence_length,
                range_of_rows(model, self.terminations),
                Condition(start.action, start.return_to_go),
                key,
            )
            return trajectory_from_rows(model, x_TD, horizon, gamma, self.termination_threshold)

        return imagine
