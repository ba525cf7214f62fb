"""Autoregressive diffusion: the diffusion world model at T = 2, its single step chained H times."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from dwm_jax.maths.returns import discounts_until_end
from dwm_jax.types import Array, ChooseAction, Key, PyTree, Start, Trajectory
from dwm_jax.world_models.base import Rollout
from dwm_jax.world_models.dwm import DiffusionWorldModel


@dataclass(frozen=True, kw_only=True)
class AutoregressiveDiffusion(DiffusionWorldModel):
    """The denoiser of DWM over two rows, called H times: a one-step model that can draw from any distribution.

    Every step starts from the state imagined last and the policy's action there, and asks for the return-to-go that
    was asked of the first pair. Where one g_eval is asked of every recorded pair, an imagined one is a pair like any
    other; where it is what the first pair can reach (`policy.ask`), that holds for the whole chain. (To count it down,
    g' = (g - r) / gamma, would let errors of imagined rewards pile up in the condition.)
    Source: DWM, its comparison with autoregressive diffusion (AD-TD3BC and its siblings).
    """

    title = "AD"
    needs_policy = True

    sequence_length: int = field(default=2, init=False)

    @property
    def longest_horizon(self) -> int | None:
        return None

    def step(self, gamma: float) -> Rollout:
        """One step of the chain: a rollout with H = 1."""
        return super().rollout(1, gamma)

    def rollout(self, horizon: int, gamma: float) -> Rollout:
        imagine_step = self.step(gamma)

        def imagine(model: PyTree, start: Start, choose_action: ChooseAction, key: Key) -> Trajectory:
            def advance(
                carry: tuple[Array, Array], step_and_key: tuple[Array, Key]
            ) -> tuple[tuple[Array, Array], Trajectory]:
                step, step_key = step_and_key
                noise_key, action_key = jax.random.split(step_key)
                imagined = imagine_step(model, Start(*carry, start.return_to_go), choose_action, noise_key)
                next_O = imagined.next_observations[0]
                return (next_O, choose_action(step + 1, next_O, action_key)), imagined

            steps = (jnp.arange(horizon), jax.random.split(key, horizon))
            _, steps_H1 = jax.lax.scan(advance, (start.observation, start.action), steps)
            chain = jax.tree.map(lambda leaf: leaf[:, 0], steps_H1)
            # A step knows nothing of the ends before it.
            return chain._replace(discounts=discounts_until_end(chain.discounts == 0, gamma))

        return imagine
