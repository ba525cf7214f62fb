"""A method's policies on their own: the actors' parameters, the units and the settings, in one .npz without pickle.

Enough to act, without data, world model or checkpoints: `load` on a machine that has only this package.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwm_jax import processes
from dwm_jax.normalizers import AffineNormalizer
from dwm_jax.registry import LEARNERS
from dwm_jax.types import Array, PyTree

FORMAT = 1
ABOUT = "about.json"


class ExportedPolicies(NamedTuple):
    """What an exported file holds."""

    method: str
    task: str
    seeds: tuple[int, ...]
    # (observations (S, E, O)) -> actions (S, E, A), raw; S policies, one per seed.
    act: Callable[[np.ndarray], Array]


class _Arrays(NamedTuple):
    """The arrays in the file; their names there are the paths in this tree."""

    inference_S: PyTree  # what `Learner.act` needs, all seeds stacked
    observation_normalizer: AffineNormalizer


def save(
    path: Path,
    *,
    method: str,
    task: str,
    seeds: list[int],
    learner: str,
    settings: Mapping[str, Any],
    inference_S: PyTree,
    observation_normalizer: AffineNormalizer,
) -> None:
    """Writes the file whole or not at all; of a run's processes the first does.

    Args:
      path: ends in .npz.
      learner, settings: a key of `registry.LEARNERS` and the keywords it was made with.
      inference_S: what the learner's `act` needs, all seeds stacked.
      observation_normalizer: of the units that the policies see.
    """
    if not processes.is_first():
        return
    leaves = jax.tree_util.tree_leaves_with_path(_Arrays(inference_S, observation_normalizer))
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    about = {
        "format": FORMAT,
        "method": method,
        "task": task,
        "seeds": seeds,
        "learner": learner,
        "settings": dict(settings),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".new.npz")
    np.savez(aside, **arrays, **{ABOUT: np.array(json.dumps(about))})  # type: ignore[arg-type]
    os.replace(aside, path)


def load(path: Path) -> ExportedPolicies:
    """Reads what `save` wrote.

    Raises:
      ValueError: not such a file, or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        about = json.loads(str(arrays.pop(ABOUT)))
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a file of exported policies: {error}") from error
    if about["format"] != FORMAT:
        raise ValueError(f"{path} has format {about['format']}, this version reads {FORMAT}")
    learner = LEARNERS[about["learner"]](**about["settings"])

    # The structure is the learner's own; only names and numbers come from the file.
    one = jax.eval_shape(lambda key: learner.inference(learner.init(key)), jax.random.key(0))
    fields: Any = AffineNormalizer._fields
    like = _Arrays(one, AffineNormalizer(*fields))
    stored = jax.tree_util.tree_map_with_path(lambda path, _: jnp.asarray(arrays[jax.tree_util.keystr(path)]), like)

    @jax.jit
    def act(observation_SEO: Array) -> Array:
        observation_SEO = stored.observation_normalizer.normalize(observation_SEO)
        per_episode = jax.vmap(learner.act, in_axes=(None, 0))
        return jax.vmap(per_episode)(stored.inference_S, observation_SEO)

    return ExportedPolicies(about["method"], about["task"], tuple(about["seeds"]), act)
