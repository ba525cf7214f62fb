"""Where a policy is evaluated: Gymnasium environments with flat observations and actions in [-1, 1].

D4RL's v2 locomotion data is evaluated on Gymnasium's `-v4` environments: the `-v2` ones it was recorded on are
gone, and `-v5` changed Walker2d's foot friction and when the healthy reward is paid. MuJoCo promises no equality
across its versions.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from dwm_jax.data import d4rl_mazes
from dwm_jax.data.robotics import gymnasium_robotics
from dwm_jax.data.spaces import ActionRange, KeyPath, action_range, flatten_observations, observation_keys

# By robot, the name of a locomotion environment without its version: D4RL's (min, max) return.
REFERENCE_SCORES = {
    "HalfCheetah": (-280.178953, 12135.0),
    "Hopper": (-20.272305, 3234.3),
    "Walker2d": (1.629008, 4592.3),
}
# The paper's divisors of returns-to-go.
RETURN_SCALES = {"Hopper": 400.0, "Walker2d": 550.0, "HalfCheetah": 1200.0}
# Environments that D4RL had and Gymnasium has not, by D4RL's names.
D4RL_ENVIRONMENTS: dict[str, Callable[..., gym.Env[Any, Any]]] = d4rl_mazes.ENVIRONMENTS


def robot(environment: str) -> str:
    """The name of an environment without namespace and version: "Hopper" of "Hopper-v4"."""
    return environment.rsplit("/", 1)[-1].rsplit("-v", 1)[0]


def is_known(environment: str) -> bool:
    """Whether `make` knows the id. Makes nothing."""
    if environment in D4RL_ENVIRONMENTS:
        return True
    gym.register_envs(gymnasium_robotics)
    return environment in gym.registry and not _is_a_stub(environment)


def step_limit(environment: str) -> int | None:
    """Steps after which the clock of an environment ends an episode; None where there is no clock, or none known.

    D4RL's mazes have none here: their data is one long recording, cut only for the evaluation.
    """
    gym.register_envs(gymnasium_robotics)
    return gym.spec(environment).max_episode_steps if environment in gym.registry else None


def make(
    environment: str,
    spec: str | None = None,
    *,
    keys: Sequence[KeyPath] | None = None,
    actions: ActionRange | None = None,
    observation_size: int | None = None,
    render_mode: str | None = None,
) -> gym.Env[np.ndarray, np.ndarray]:
    """The environment in the units of the data.

    Args:
      environment: a Gymnasium id, or a key of D4RL_ENVIRONMENTS.
      spec: Gymnasium's specification (JSON) where the data carries one; it settles arguments and clock.
      keys: the order in which the data flattened a dict observation; None takes the environment's own.
      actions: the bounds that the data's actions were scaled from; None takes the environment's own.
      observation_size: O of the data, to be checked.
      render_mode: as in Gymnasium; "rgb_array" for films.

    Raises:
      ValueError: an unknown id, or an environment that does not fit the data.
    """
    env = _make(environment, spec, render_mode)
    own_keys = observation_keys(env.observation_space, environment)
    own_range = action_range(env.action_space, environment)
    if actions is not None and (len(actions.low) != len(own_range.low) or not np.allclose(actions, own_range)):
        raise ValueError(
            f"environment {environment} takes {len(own_range.low)} actions in [{own_range.low}, {own_range.high}], "
            f"the data has {len(actions.low)} in [{actions.low}, {actions.high}]; name its own with --env"
        )
    if not own_range.is_unit:
        env = gym.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))
    if keys is not None and set(keys) - set(own_keys):
        raise ValueError(f"environment {environment} has the observations {own_keys}, the data {tuple(keys)}")
    flat = FlatObservations(env, own_keys if keys is None else keys)
    if observation_size is not None and flat.size != observation_size:
        raise ValueError(
            f"environment {environment} gives {flat.size} observations, the data has {observation_size}; "
            "name its own with --env"
        )
    return flat


class FlatObservations(gym.ObservationWrapper[np.ndarray, Any, Any]):
    """Concatenates a dict observation in the order in which the data was concatenated."""

    def __init__(self, env: gym.Env[Any, Any], keys: Sequence[KeyPath]):
        super().__init__(env)
        self._keys = tuple(keys)
        self.size = sum(map(self._size, self._keys))
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (self.size,), np.float64)

    def observation(self, observation: Any) -> np.ndarray:
        return np.asarray(flatten_observations(observation, self._keys, batch_axes=0), np.float64)

    def _size(self, path: KeyPath) -> int:
        space: Any = self.env.observation_space
        for key in path:
            space = space[key]
        return int(np.prod(space.shape))


def _make(environment: str, spec: str | None, render_mode: str | None) -> gym.Env[Any, Any]:
    gym.register_envs(gymnasium_robotics)
    with warnings.catch_warnings():
        # Gymnasium asks for v5 instead of the v4 that is meant.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        if environment in D4RL_ENVIRONMENTS:
            return D4RL_ENVIRONMENTS[environment](render_mode=render_mode)
        try:
            return gym.make(environment if spec is None else EnvSpec.from_json(spec), render_mode=render_mode)
        except Exception as error:  # whatever a third party's environment raises when it is made
            raise ValueError(
                f"environment {environment!r} cannot be made here: {type(error).__name__}: {error}"
            ) from error


def _is_a_stub(environment: str) -> bool:
    """Ids such as Hopper-v2 stay registered although their simulator is gone."""
    return robot(environment) in REFERENCE_SCORES and environment.endswith(("-v2", "-v3"))
