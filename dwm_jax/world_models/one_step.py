"""The one-step Gaussian dynamics model, rolled out H times with a policy (standard model-based value expansion)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dwm_jax.maths.returns import discounts_until_end
from dwm_jax.networks.initialization import compute_once
from dwm_jax.networks.mlp import MLP
from dwm_jax.runtime.settings import require
from dwm_jax.types import Array, Average, ChooseAction, Key, Metrics, PyTree, Segment, Start, Trajectory
from dwm_jax.world_models.base import Rollout, Training, TrainingRows, WorldModel
from dwm_jax.world_models.dynamics_units import DynamicsUnits, fit_dynamics_units
from dwm_jax.world_models.trained_by_adam import State, TrainedByAdam

# Smallest standard deviation, in units of the targets' own; keeps the likelihood of deterministic systems finite.
MIN_STD = 1e-3


class InferenceState(NamedTuple):
    params: PyTree  # of all members, leading axis M
    units: DynamicsUnits


class StepDistribution(NamedTuple):
    """What a step may lead to, normalised; leading axis M for all members."""

    mean: Array  # (O + 1,) of (s' - s, r)
    std: Array  # (O + 1,)
    end: Array  # () logit of the probability that the step ends the task; -inf without terminations


class GaussianDynamics(nn.Module):
    """Mean, standard deviation and termination from separate MLPs: (O + A,) -> `StepDistribution`."""

    hidden: Sequence[int]
    target_size: int
    terminations: bool

    @nn.compact
    def __call__(self, x: Array) -> StepDistribution:
        mean = MLP((*self.hidden, self.target_size), name="mean")(x)
        spread = MLP((*self.hidden, self.target_size), name="std")(x)
        end = MLP((*self.hidden, 1), name="end")(x)[0] if self.terminations else jnp.full((), -jnp.inf)
        return StepDistribution(mean, nn.softplus(spread) + MIN_STD, end)


@dataclass(frozen=True, kw_only=True)
class OneStep(TrainedByAdam, WorldModel):
    """p(s', r | s, a) = N(mean, diag(std^2)), trained by maximum likelihood, called H times.

        loss = mean over entries of  log std + ((y - mean) / std)^2 / 2,     y = normalised (s' - s, r)

    It predicts the change of the state, standardised (inputs too), within the range of the data (`DynamicsUnits`):
    the usual parametrisation of a strong one-step baseline.

    With `terminations` (not in the paper) it also says how likely the step ends the task, by binary cross-entropy;
    an imagined step draws from that, and from the first end on discounts are 0.

    Source: DWM appendix (4 layers of 256, softplus covariance, Adam 1e-4).
    """

    title = "OneStep"
    training = Training(num_updates=1_000_000, batch_size=256)
    needs_policy = True
    num_members = 1

    hidden: tuple[int, ...] = (256, 256, 256, 256)  # widths of the hidden layers of both MLPs
    terminations: bool = False  # whether it says that the task ended

    @property
    def sequence_length(self) -> int:
        return 2

    def network(self, units: DynamicsUnits) -> Any:
        return GaussianDynamics(tuple(self.hidden), units.target_normalizer.low.shape[0], self.terminations)

    def init(self, key: Key, rows: TrainingRows) -> State:
        units = fit_dynamics_units(rows)
        inputs = jnp.zeros(rows.observations.shape[1] + rows.actions.shape[1])
        # A single model draws its weights from the key itself, as a model without an ensemble would.
        keys_M = jax.random.split(key, self.num_members) if self.num_members > 1 else key[None]
        params = compute_once(jax.vmap(self.network(units).init, in_axes=(0, None)), keys_M, inputs)
        return self.start(InferenceState(params, units))

    def predict(self, model: InferenceState, observation_O: Array, action_A: Array) -> StepDistribution:
        """Every member's, leading axis M."""
        observation_O = model.units.observation_normalizer.normalize(observation_O)
        inputs = jnp.concatenate([observation_O, model.units.action_normalizer.normalize(action_A)])
        return jax.vmap(self.network(model.units).apply, in_axes=(0, None))(model.params, inputs)

    def sample_losses(self, model: InferenceState, segment: Segment) -> tuple[Array, Array]:
        """Loss and squared error of every member: 2 x (M,)."""
        mean_MD, std_MD, end_M = self.predict(model, segment.observations[0], segment.actions[0])
        # Never masked: a segment starts at an action, and the state it led to was recorded.
        target_D = model.units.target(segment.observations[0], segment.observations[1], segment.rewards[0])
        error_MD = (target_D - mean_MD) / std_MD
        loss_M = jnp.mean(jnp.log(std_MD) + error_MD**2 / 2, axis=1)
        if self.terminations:
            loss_M += optax.sigmoid_binary_cross_entropy(end_M, segment.terminated[0].astype(jnp.float32))
        return loss_M, jnp.mean((target_D - mean_MD) ** 2, axis=1)

    def weigh(self, key: Key) -> Array:
        """The weight of one sample in each member's loss: (M,)."""
        return jax.random.exponential(key, (self.num_members,)) if self.num_members > 1 else jnp.ones(1)

    def update(
        self, state: State, segments: Segment, keys: Array, step: Array, average: Average
    ) -> tuple[State, Metrics]:
        del step  # every step is the same
        weights_BM = jax.vmap(self.weigh)(keys)

        def loss(model: InferenceState) -> tuple[Array, Metrics]:
            losses_BM, errors_BM = jax.vmap(self.sample_losses, in_axes=(None, 0))(model, segments)
            # The sum over members: each has the gradient it would have alone.
            total = (weights_BM * losses_BM).mean(axis=0).sum()
            return total, {"world_model/loss": losses_BM.mean(), "world_model/mse": errors_BM.mean()}

        return self.descend(loss, state, average)

    def follow(self, horizon: int, gamma: float, count: int) -> Rollout:
        """Follows one member, drawn at random, and has `count` - 1 others predict every step too.

        All predictions share the noise of the step: y^i = mean^i + std^i eps, from the state that was reached with
        y^0. So they differ by the members' disagreement alone, and not by noise: members that agree predict the
        same, and a squared distance is on average the squared Wasserstein distance of two Gaussians,
        |mean^i - mean^j|^2 + |std^i - std^j|^2 in raw units. The first prediction, noise included, is the trajectory.
        """

        def imagine(model: InferenceState, start: Start, choose_action: ChooseAction, key: Key) -> Trajectory:
            members = jnp.zeros(1, int)
            if self.num_members > 1:
                key, members_key = jax.random.split(key)
                members = jax.random.permutation(members_key, self.num_members)[:count]

            def advance(
                carry: tuple[Array, Array], step_and_key: tuple[Array, Key]
            ) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
                observation_O, action_A = carry
                step, step_key = step_and_key
                noise_key, action_key, end_key = jax.random.split(step_key, 3)
                # Every member predicts and some are read: in a batch far cheaper than each sample's own weights.
                answers = jax.tree.map(lambda leaf: leaf[members], self.predict(model, observation_O, action_A))
                noise_D = jax.random.normal(noise_key, answers.mean.shape[1:])
                next_MO, rewards_M = model.units.step(observation_O, answers.mean + answers.std * noise_D)
                ended_M = jax.random.uniform(end_key) < jax.nn.sigmoid(answers.end)
                next_O = next_MO[0]
                return (next_O, choose_action(step + 1, next_O, action_key)), (next_MO, rewards_M, ended_M)

            steps = (jnp.arange(horizon), jax.random.split(key, horizon))
            _, (next_HMO, rewards_HM, ended_HM) = jax.lax.scan(advance, (start.observation, start.action), steps)
            discounts_MH = jax.vmap(discounts_until_end, in_axes=(1, None))(ended_HM, gamma)
            return Trajectory(jnp.swapaxes(next_HMO, 0, 1), rewards_HM.T, discounts_MH)

        return imagine

    def rollout(self, horizon: int, gamma: float) -> Rollout:
        follow_one = self.follow(horizon, gamma, count=1)

        def imagine(model: InferenceState, start: Start, choose_action: ChooseAction, key: Key) -> Trajectory:
            return jax.tree.map(lambda leaf: leaf[0], follow_one(model, start, choose_action, key))

        return imagine


@dataclass(frozen=True, kw_only=True)
class Ensemble(OneStep):
    """Several one-step models, whose disagreement makes OneStep-PQL pessimistic.

    The members start from different weights and, as if each were shown batches of its own, weigh every sample anew by
    a draw from Exponential(1). A trajectory follows one member, drawn at random (TS-infinity). In the `alternatives`
    several members answer side by side along one followed trajectory: see `follow`. Source: PETS (Chua et al. 2018).
    """

    title = "Ensemble"

    num_members: int = 5  # M  # type: ignore[misc]

    def __post_init__(self) -> None:
        require(self, "num_members", self.num_members >= 1, "at least 1")

    def alternatives(self, horizon: int, gamma: float, count: int) -> Rollout:
        """Raises ValueError for more alternatives than there are members."""
        if count > self.num_members:
            raise ValueError(f"{count} alternatives need as many members; num_members is {self.num_members}")
        return self.follow(horizon, gamma, count)
