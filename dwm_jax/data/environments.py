"""Where a policy is evaluated: Gymnasium environments with flat observations and actions in [-1, 1].

D4RL's v2 locomotion data is evaluated on Gymnasium's `-v4` environments: the `-v2` ones it was recorded on are
gone, and `-v5` changed Walker2d's foot friction and when the healthy reward is paid. MuJoCo promises no equality
across its versions.
"""

import importlib
import importlib.util
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from dwm_jax.data import cameras, d4rl_adroit, d4rl_mazes, trust
from dwm_jax.data.robotics import gymnasium_robotics
from dwm_jax.data.spaces import ActionRange, KeyPath, action_range, flatten_observations, observation_keys, size_at

# By robot, the name of a locomotion environment without its version: D4RL's (min, max) return.
REFERENCE_SCORES = {
    "HalfCheetah": (-280.178953, 12135.0),
    "Hopper": (-20.272305, 3234.3),
    "Walker2d": (1.629008, 4592.3),
}
# The paper's divisors of returns-to-go.
RETURN_SCALES = {"Hopper": 400.0, "Walker2d": 550.0, "HalfCheetah": 1200.0}
# Observations of gym's Ant in D4RL's time: 27, and 84 contact forces.
OLD_ANT_SIZE = 111
# Arguments of `gym.make` that are not the data's to say.
_OURS = ("render_mode", "id", "vectorization_mode", "disable_env_checker", "max_episode_steps")
# Environments that D4RL had and Gymnasium has not, by D4RL's names.
D4RL_ENVIRONMENTS: dict[str, Callable[..., gym.Env[Any, Any]]] = {
    **d4rl_mazes.ENVIRONMENTS,
    **d4rl_adroit.ENVIRONMENTS,
}


def robot_name(environment: str) -> str:
    """The name of an environment without module, namespace and version: "Hopper" of "Hopper-v4"."""
    return bare_id(environment).rsplit("/", 1)[-1].rsplit("-v", 1)[0]


def module_of(environment: str) -> str:
    """The module of "module:Id-v0"; empty where none is named."""
    return environment.rpartition(":")[0]


def bare_id(environment: str) -> str:
    """An id without its module: "Id-v0" of "module:Id-v0"."""
    return environment.rsplit(":", 1)[-1]


def is_known(environment: str) -> bool:
    """Whether `make` knows the id. Makes nothing; imports the module of "module:Id-v0" where the user has named it."""
    if environment in D4RL_ENVIRONMENTS:
        return True
    if (module := module_of(environment)) and not trust.is_allowed(module):
        return False
    _register(environment)
    return bare_id(environment) in gym.registry and not _is_a_stub(environment)


class Facts(NamedTuple):
    """What an environment says about itself once it is made."""

    action_range: ActionRange
    clock: int | None  # steps after which it truncates an episode by itself; None where it has no clock


def inspect(environment: str, spec: str | None = None, *, clock: int | None = None) -> Facts:
    """Makes an environment, looks at it and closes it; the arguments and errors are those of `make`."""
    env = _make(environment, spec, None, clock)
    try:
        return Facts(action_range(env.action_space, environment), clock_of(env))
    finally:
        env.close()


def clock_of(env: gym.Env[Any, Any]) -> int | None:
    """Steps after which an environment truncates an episode by itself; None where it has no clock."""
    limits, current = [], env
    while isinstance(current, gym.Wrapper):
        if isinstance(current, gym.wrappers.TimeLimit):
            limits.append(int(current._max_episode_steps))
        current = current.env
    return min(limits, default=None)


def require_clock(env: gym.Env[Any, Any], owner: str) -> None:
    """Refuses an environment in which nothing ends an episode for certain: its evaluation might never end.

    Raises:
      ValueError: there is no time limit around it.
    """
    if clock_of(env) is None:
        raise ValueError(
            f"{owner} has no clock, and an evaluation in it might never end: register it with max_episode_steps, or "
            "prepare the data (with --file, under a name of its own) with --max-episode-steps N"
        )


@contextmanager
def name_failures(what: str) -> Iterator[None]:
    """Whatever an environment's own code raises inside the block is said in one line to be the environment's.

    Args:
      what: which environment does what, for the line.

    Raises:
      ValueError: instead of any exception.
    """
    try:
        yield
    except Exception as error:  # it may be a third party's
        raise ValueError(f"{what} fails: {type(error).__name__}: {error}") from error


def make(
    environment: str,
    spec: str | None = None,
    *,
    keys: Sequence[KeyPath] | None = None,
    actions: ActionRange | None = None,
    observation_size: int | None = None,
    render_mode: str | None = None,
    clock: int | None = None,
) -> gym.Env[np.ndarray, np.ndarray]:
    """The environment in the units of the data.

    Args:
      environment: a Gymnasium id ("module:Id-v0" imports the module first), or a key of D4RL_ENVIRONMENTS.
      spec: Gymnasium's specification (JSON) where the data carries one; it settles arguments and clock, nothing else:
        what is called is what this machine has under the id.
      keys: the order in which the data flattened a dict observation; None takes the environment's own.
      actions: the bounds that the data's actions were scaled from; None takes the environment's own.
      observation_size: O of the data, to be checked.
      render_mode: as in Gymnasium; "rgb_array" for films.
      clock: steps after which an episode is truncated, in place of the environment's own; None leaves that to it.

    Raises:
      ValueError: an unknown id, an environment that does not fit the data, or one without a clock.
    """
    env = _make(environment, spec, render_mode, clock)
    require_clock(env, f"environment {environment}")
    own_keys = observation_keys(env.observation_space, environment)
    env = _with_unit_actions(env, environment, actions)
    if keys is not None and set(keys) - set(own_keys):
        raise ValueError(f"environment {environment} has the observations {own_keys}, the data {tuple(keys)}")
    flat = FlatObservations(env, own_keys if keys is None else keys)
    if observation_size is not None and flat.size != observation_size:
        raise ValueError(
            f"environment {environment} gives {flat.size} observations, the data has {observation_size}"
            f"{_old_ant(environment, observation_size)}; name its own with --env, or --env none for a world model alone"
        )
    return flat


def _with_unit_actions(env: gym.Env[Any, Any], environment: str, actions: ActionRange | None) -> gym.Env[Any, Any]:
    """The environment acted in by [-1, 1], which stand for its own bounds, or for the data's where it has none."""
    own = action_range(env.action_space, environment)
    if actions is not None and len(actions.low) != len(own.low):
        raise ValueError(
            f"environment {environment} takes {len(own.low)} actions, the data has {len(actions.low)}; name its own "
            "with --env, or --env none for a world model alone"
        )
    if actions is not None and own.is_bounded and not np.allclose(actions, own):
        raise ValueError(
            f"environment {environment} takes actions in [{own.low}, {own.high}], the data's were in [{actions.low}, "
            f"{actions.high}]; name its own with --env, or scale them by the environment's bounds with --actions scale"
        )
    units = own if own.is_bounded or actions is None else actions
    if not units.is_bounded:
        raise ValueError(
            f"environment {environment}: its actions have no bounds, nor have the data's; prepare the data under a "
            "name of its own, with --file and --actions scale, which takes the recorded ones"
        )
    kind = env.action_space.dtype
    is_whole = np.issubdtype(kind, np.integer)
    if units.is_unit and not is_whole:
        return env

    def own_action(unit_action: np.ndarray) -> np.ndarray:
        action = units.from_unit(unit_action)
        return (np.rint(action) if is_whole else action).astype(kind)

    return gym.wrappers.TransformAction(env, own_action, gym.spaces.Box(-1, 1, (len(units.low),), np.float32))


def _old_ant(environment: str, observation_size: int) -> str:
    """The explanation of the one size of published data that no environment here has; empty for other sizes."""
    is_one = robot_name(environment) == "Ant" and observation_size == OLD_ANT_SIZE
    return ", as gym's Ant of D4RL's time had with 84 contact forces, which no environment here shows" if is_one else ""


class FlatObservations(gym.ObservationWrapper[np.ndarray, Any, Any]):
    """Concatenates a dict observation in the order in which the data was concatenated."""

    def __init__(self, env: gym.Env[Any, Any], keys: Sequence[KeyPath]):
        super().__init__(env)
        self._keys = tuple(keys)
        self.size = sum(size_at(env.observation_space, path) for path in self._keys)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (self.size,), np.float64)

    def observation(self, observation: Any) -> np.ndarray:
        return np.asarray(flatten_observations(observation, self._keys, batch_axes=0), np.float64)


def _make(environment: str, spec: str | None, render_mode: str | None, clock: int | None) -> gym.Env[Any, Any]:
    # Not every environment takes a render_mode, so that none is given where none is wanted.
    wanted = {"render_mode": render_mode, "max_episode_steps": clock}
    arguments: dict[str, Any] = {key: value for key, value in wanted.items() if value is not None}
    with warnings.catch_warnings():
        # Gymnasium asks for v5 instead of the v4 that is meant.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        if environment in D4RL_ENVIRONMENTS:
            env = D4RL_ENVIRONMENTS[environment](**arguments)
        else:
            _register(environment)
            try:
                said = {} if spec is None else _arguments_of(spec)
                env = gym.make(_registered(environment, spec), **(said | arguments))
            except Exception as error:  # whatever a third party's environment raises when it is made
                raise ValueError(
                    f"environment {environment!r} cannot be made here: {type(error).__name__}: {error}"
                    f"{_remedy(environment, spec)}"
                ) from error
    if render_mode is not None:
        cameras.place_camera(env)
    if clock is not None and clock_of(env) != clock:
        env.close()
        raise ValueError(
            f"environment {environment} ends its episodes after {clock_of(env)} steps in code of its own, before the "
            f"{clock} of --max-episode-steps; ask for no more"
        )
    return env


def _arguments_of(spec: str) -> dict[str, Any]:
    """Of a specification that came with data: keyword arguments and clock.

    Its entry point, wrappers and whatever else would be called are left where they are.
    """
    described = json.loads(spec)
    arguments = {key: value for key, value in dict(described.get("kwargs") or {}).items() if key not in _OURS}
    clock = described.get("max_episode_steps")
    return arguments | ({} if clock is None else {"max_episode_steps": int(clock)})


def _registered(environment: str, spec: str | None) -> str | EnvSpec:
    """What `gym.make` makes: the id, or where nobody has registered it the class that the data's specification names.

    Only a class of environments counts, and only in a module that the user has named.
    """
    name, module, entry = bare_id(environment), module_of(environment), _entry_point(spec)
    if name in gym.registry or not module or entry.partition(":")[0] != module:
        return environment
    found = getattr(importlib.import_module(module), entry.partition(":")[2], None)
    is_class = isinstance(found, type) and issubclass(found, gym.Env)
    return EnvSpec(name, entry_point=found) if is_class else environment


def _entry_point(spec: str | None) -> str:
    """The entry point that a specification names, "module:Class"; "" for none."""
    entry = json.loads(spec).get("entry_point") if spec is not None else None
    return entry if isinstance(entry, str) else ""


def _remedy(environment: str, spec: str | None) -> str:
    """Where an environment that came with data may be found."""
    module = _entry_point(spec).partition(":")[0]
    if not module or bare_id(environment) in gym.registry:
        return ""
    return (
        f"; its data names an environment of the Python package {module.partition('.')[0]!r}: where that is installed, "
        f"and trusted, prepare the data under a name of its own, with --file and --env {module}:{bare_id(environment)}"
    )


def _register(environment: str) -> None:
    """Has the environments registered that come with Gymnasium-Robotics, and those of the module that is named.

    Raises:
      ValueError: the module cannot be imported.
    """
    gym.register_envs(gymnasium_robotics)
    if module := module_of(environment):
        if not trust.is_allowed(module):
            raise ValueError(
                f"environment {environment!r} asks for the Python module {module!r}, which is imported only where you "
                f"have named it yourself: prepare the data with --file, under a name of its own, --env {environment}"
            )
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:  # whatever a third party's module raises when it is imported
            raise ValueError(
                f"environment {environment!r}: module {module!r} cannot be imported here: "
                f"{type(error).__name__}: {error}"
            ) from error


def _is_a_stub(environment: str) -> bool:
    """Ids such as Ant-v2 and Hopper-v3 stay registered although their simulator, mujoco_py, is gone."""
    entry_point = gym.registry[bare_id(environment)].entry_point
    if not isinstance(entry_point, str):
        return getattr(entry_point, "__name__", "").startswith("_raise")
    is_old = ".mujoco." in entry_point and environment.endswith(("-v2", "-v3"))
    return is_old and importlib.util.find_spec("mujoco_py") is None
