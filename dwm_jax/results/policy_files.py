"""A method's policies on their own: parameters, units and settings of all seeds, in one .npz without pickle.

Enough to act, without data, checkpoints or the run: `load` on a machine that has only this package. Two kinds: actors
that a learner trained, and a planner - a model that plans at every step, one for all seeds, which differ in what it
draws.
"""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax.data.tasks import Sizes
from dwm_jax.learners.policies import Acting, make_act_everywhere
from dwm_jax.maths.normalizers import AffineNormalizer
from dwm_jax.registry import LEARNERS, MODELS
from dwm_jax.runtime import files, processes
from dwm_jax.runtime.settings import from_json, settings_of
from dwm_jax.types import Array, Key, PyTree
from dwm_jax.world_models.base import Planner, TrainedModel, TrainingRows

# 2: `kind`, and planners beside actors. 3: planners of version 0.2, whose denoiser has other arrays. 4: `evaluated_in`.
FORMAT = 4
READABLE = (3, 4)
ABOUT = "about.json"
ACTORS, PLANNER = "actors", "planner"

# (observations (S, E, O), number of the decision) -> actions (S, E, A), raw; S policies, one per seed, E episodes.
ActEverywhere = Callable[[np.ndarray, int], Array]


class ExportedPolicies(NamedTuple):
    """What an exported file holds."""

    method: str
    task: str
    # As in `tasks.Task`: where they are evaluated; None in files of version 0.2, which leave it to the data.
    evaluated_in: Mapping[str, Any] | None
    seeds: tuple[int, ...]
    # Decisions count from 0 in every evaluation: a planner draws by (seed, decision), actors draw nothing.
    act: ActEverywhere


class PolicyHeader(NamedTuple):
    """What a file says of its policies, whatever their kind."""

    method: str
    task: str
    seeds: Sequence[int]
    evaluated_in: Mapping[str, Any] | None = None  # as in `ExportedPolicies`


def save_actors(path: Path, header: PolicyHeader, learner: str, settings: Mapping[str, Any], policies: Acting) -> None:
    """Writes the file whole or not at all; of a run's processes only the first does.

    Args:
      path: ends in .npz.
      learner, settings: a key of `registry.LEARNERS` and the keywords it was made with.
      policies: of all seeds, stacked.
    """
    _write(path, ACTORS, header, {"learner": learner, "settings": dict(settings)}, policies)


def save_planner(
    path: Path, header: PolicyHeader, model: str, trained: TrainedModel, sizes: Sizes, return_to_go: float
) -> None:
    """Writes the file whole or not at all; of a run's processes only the first does.

    Args:
      path: ends in .npz.
      header: its seeds are of what is drawn; the model is one.
      model, trained: a key of `registry.MODELS`, and the planner that was made by it.
      sizes: of the data it was trained on.
      return_to_go: what every plan is asked for, scaled.
    """
    about = {
        "model": model,
        "settings": settings_of(trained.model),
        "observation_size": sizes.observation,
        "action_size": sizes.action,
        "return_to_go": return_to_go,
    }
    _write(path, PLANNER, header, about, trained.inference)


def load(path: Path) -> ExportedPolicies:
    """Reads what `save_actors` or `save_planner` wrote.

    The file may be anybody's: it gives names, numbers and settings, and nothing that is called. That its policies act
    on observations of the size it tells is tried here, without computing.

    Raises:
      ValueError: not such a file, or of another format or kind, or not in order.
    """
    try:
        # Compressed, a small file could hold more than there is memory for; this package writes none that are.
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("it is compressed")
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        about = json.loads(str(arrays.pop(ABOUT)))
        version, kind = about["format"], about["kind"]
    except (AttributeError, LookupError, MemoryError, OSError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a file of exported policies: {error}") from error
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a file of exported policies: {error}") from error
    if version not in READABLE:
        raise ValueError(
            f"{path} has format {version}, this version reads {', '.join(map(str, READABLE))}; the run's own command, "
            "started again, writes it anew"
        )
    if not isinstance(kind, str) or kind not in _LOADERS:
        raise ValueError(f"{path} holds {kind!r}, this version knows {', '.join(_LOADERS)}")
    try:
        if not str(about["method"]).isprintable():
            raise ValueError("the name of their method cannot be printed")
        seeds = tuple(map(int, about["seeds"]))
        act, observation_size = _LOADERS[kind](about, arrays)
        observation = jax.ShapeDtypeStruct((len(seeds), 1, observation_size), np.float32)  # type: ignore[no-untyped-call]
        jax.eval_shape(act, observation, 0)
        return ExportedPolicies(str(about["method"]), str(about["task"]), about.get("evaluated_in"), seeds, act)
    except Exception as error:  # whatever networks raise that are made with somebody else's settings
        raise ValueError(f"{path} holds policies that cannot act: {type(error).__name__}: {error}") from error


def make_plan_everywhere(
    planner: Planner, inference: PyTree, return_to_go: float, seeds: Sequence[int]
) -> ActEverywhere:
    """How a planner acts for all seeds and episodes at once; the run's evaluation and an exported file share it.

    The key of seed s's e-th episode at decision d is split(fold_in(key(s), d), E)[e]: a function of nothing else.
    """

    @jax.jit
    def plan_everywhere(inference: PyTree, observation_SEO: Array, decision: Array) -> Array:
        def one_seed(seed: Array, observation_EO: Array) -> Array:
            key = jax.random.fold_in(jax.random.key(seed), decision)
            return jax.vmap(one_episode)(observation_EO, jax.random.split(key, observation_EO.shape[0]))

        def one_episode(observation_O: Array, key: Key) -> Array:
            return planner.act(inference, observation_O, jnp.asarray(return_to_go), key)

        return jax.vmap(one_seed)(jnp.asarray(seeds), observation_SEO)

    return partial(plan_everywhere, jax.device_put(inference))


def _load_actors(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> tuple[ActEverywhere, int]:
    """(how they act, size of an observation)."""
    # Files of version 0.2 do not tell the number of updates; nothing that acts depends on it.
    learner = LEARNERS[about["learner"]](**{"num_updates": 1} | from_json(about["settings"]))
    # The structure is the learner's own; only names and numbers come from the file.
    one = jax.eval_shape(lambda key: learner.inference(learner.init(key)), jax.random.key(0))
    fields: Any = AffineNormalizer._fields
    stored = _fill(Acting(one, AffineNormalizer(*fields)), arrays)
    act = make_act_everywhere(learner)
    return lambda observation_SEO, decision: act(stored, observation_SEO), about["settings"]["observation_size"]


def _load_planner(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> tuple[ActEverywhere, int]:
    """(how it acts, size of an observation)."""
    planner: Any = MODELS[about["model"]](**from_json(about["settings"]))
    # The structure is the planner's own; of the data it was trained on it depends on the sizes alone.
    observations = np.zeros((1, about["observation_size"]), np.float32)
    actions = np.zeros((1, about["action_size"]), np.float32)
    rows = TrainingRows(observations, np.zeros(1, np.float32), observations, actions, absorbing=False)
    like = jax.eval_shape(lambda key: planner.inference(planner.init(key, rows)), jax.random.key(0))
    act = make_plan_everywhere(planner, _fill(like, arrays), about["return_to_go"], about["seeds"])
    return act, about["observation_size"]


_LOADERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, np.ndarray]], tuple[ActEverywhere, int]]] = {
    ACTORS: _load_actors,
    PLANNER: _load_planner,
}


def _fill(like: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The tree `like` with the file's arrays for leaves, found by their paths."""
    return jax.tree_util.tree_map_with_path(lambda path, _: jnp.asarray(arrays[jax.tree_util.keystr(path)]), like)


def _write(path: Path, kind: str, header: PolicyHeader, about: Mapping[str, Any], tree: PyTree) -> None:
    """The arrays' names in the file are the paths in the tree."""
    if not processes.is_first():
        return
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    text = json.dumps({"format": FORMAT, "kind": kind, **header._asdict(), "seeds": list(header.seeds), **about})
    files.write_from(path, lambda file: np.savez(file, **arrays, **{ABOUT: np.array(text)}))  # type: ignore[arg-type]
