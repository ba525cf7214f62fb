"""ReBRAC: TD3+BC with two penalties on leaving the recorded actions, in the actor's loss and in the critics' target."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import optax

from dwm_jax.learners.td3_bc import TD3BC, Weights
from dwm_jax.maths.losses import action_distance, rebrac_actor_loss
from dwm_jax.types import Array, Average, Batch, Expand, Key, Metrics, NextPair, PyTree, Trajectory


@dataclass(frozen=True, kw_only=True)
class ReBRAC(TD3BC):
    """ReBRAC (Tarasov et al. 2023, arXiv 2305.09836), update for update as in its published code.

    What differs from TD3+BC:
      1. targets: V(s) = min_j Q'_j(s, a~(s)) - beta_2 |a~(s_{t+1}) - a_{t+1}|^2, y = expand(trajectory, V), with
         a~(s) = clip(pi'(s) + clip(noise));
      2. on the first of every `policy_delay` updates: an actor step on `rebrac_actor_loss` with the smaller of the two
         new critics; then the critics' targets move towards the new critics, the actor's towards the actor as it was
         before this step.

    The penalty of a target that looks further than one step. It applies where the target leaves the data: where it
    bootstraps, with the policy's action instead of a recorded one. One recorded step ahead that is s_{t+1}, and the
    penalty is the published one. At an imagined s_{t+H} there is no recorded action to compare with, and world models
    here generate none. So whatever state is bootstrapped, imagined or recorded, the recorded pair one step ahead
    stands in for it: V is lowered by the penalty at s_{t+1}, which has the bootstrap's weight in the target: gamma^H
    over H steps, a lambda-return's shares, 0 after a termination. `ReBRAC-H`, which could look up a_{t+H}, is treated
    alike, so that what DWM adds to it is imagination alone. Of an imagined pair (DAWM) the pair one step ahead is the
    imagined one, with its inferred action.

    Where nobody acted at s_{t+1} there is no penalty: after the last step of a truncated episode, and for generated
    transitions. The published code drops the former from the data; here they are kept, for their reward and next state.
    After a terminated step the published code compares with the next episode's first action; that has no effect,
    because the target bootstraps nothing there.

    As published: layer norm in the critics alone. Not as published, but as for every learner here: observations are
    standardised, layer norm stands before the ReLU (there behind it), and networks start from flax's initialisation
    (there from PyTorch's, with last layers near zero). What it is set to on each D4RL task is in
    `experiments/configs/rebrac.py`.
    """

    title = "ReBRAC"

    hidden: tuple[int, ...] = (256, 256, 256)  # widths of actor and critics
    layer_norm: bool = True  # of the critics' hidden layers
    learning_rate: float = 1e-3  # Adam's, for the actor
    critic_learning_rate: float = 1e-3  # Adam's, for the critics
    actor_penalty: float = 0.01  # beta_1: price of |pi(s) - a|^2 in the actor's loss, in units of mean|Q|
    critic_penalty: float = 0.01  # beta_2: price of |pi'(s') - a'|^2 in the target, in units of (scaled) rewards
    reward_scale: float = 1.0  # rewards are multiplied by it
    alpha: float = field(default=1.0, init=False)  # no setting here: the penalties are weighed against a value of 1

    @property
    def critic_optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.critic_learning_rate)

    def steps_actor(self, step: Array | int) -> Array | bool:
        return step % self.policy_delay == 0

    def followed_by_targets(self, before: Weights, after: Weights) -> Weights:
        return Weights(before.actor, after.critics)

    def critic_targets(self, target: Weights, batch: Batch, expand: Expand, keys_B: Array) -> Array:
        def of_one(trajectory: Trajectory, next_pair: NextPair, key: Key) -> Array:
            noise_A = self.smoothing_noise(key)
            penalty = self.penalty(target, next_pair, noise_A)
            return expand(trajectory, lambda observation_O: self.target_value(target, observation_O, noise_A) - penalty)

        return jax.vmap(of_one)(batch.trajectory, batch.next_pair, keys_B)

    def penalty(self, target: Weights, next_pair: NextPair, noise_A: Array) -> Array:
        """beta_2 |a~(s_{t+1}) - a_{t+1}|^2; 0 where a_{t+1} is not known: ()."""
        action_A = self.smoothed_action(target, next_pair.observation, noise_A)
        distance = action_distance(action_A, next_pair.action)
        return self.critic_penalty * jnp.where(next_pair.is_known, distance, 0.0)

    def actor_loss(
        self, actor_params: PyTree, critics: PyTree, batch: Batch, average: Average
    ) -> tuple[Array, Metrics]:
        """`rebrac_actor_loss` under the smaller of the new critics."""
        action_BA = self.actor.apply(actor_params, batch.observation)
        q_B = self.critics.values(critics, batch.observation, action_BA).min(axis=0)
        return rebrac_actor_loss(q_B, action_BA, batch.action, self.actor_penalty, average), {}
