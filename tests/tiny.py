"""The smallest run that passes through every phase, and what is left of it."""

from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from dwm_jax.data.recording import Recording
from dwm_jax.phases.phase import Run
from dwm_jax.phases.pretraining import pretraining, teacher_run
from dwm_jax.train import run_phase
from dwm_jax.world_models.base import TrainedModel
from experiments.configs import smoke

# One model whose trajectories are drawn in bulk, one that follows the policy.
BULK_AND_FOLLOWING = "DWM-TD3BC,OneStep-TD3BC"


def config(**overrides: object) -> ConfigDict:
    """The smoke config, smaller still; overrides by dotted key, dots written as `__`."""
    config = smoke.get_config()
    config.data.num_steps = 1_200
    config.updates_per_dispatch = 5
    config.checkpoint_every = 10
    config.evaluation.every = 10
    config.evaluation.episodes = 1
    config.policy.num_updates = 20
    config.policy.largest_error = 0.0  # after 20 updates no world model is to be trusted: every horizon would be 1
    for world_model in config.world_models.values():
        world_model.num_updates = 20
        world_model.update({"distil_updates": 20} if "distil_updates" in world_model else {})
        # A U-Net of one level is half the program; tests/networks and the smoke config try more of them.
        world_model.update({"multipliers": (1,)} if "multipliers" in world_model else {})
    with config.unlocked():
        config.update_from_flattened_dict({key.replace("__", "."): value for key, value in overrides.items()})
    return config


def final_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint of every phase below `folder`."""
    arrays = {}
    for phase in sorted(path for path in folder.glob("**/checkpoints/*") if path.is_dir()):
        with ocp.CheckpointManager(phase) as checkpoints:
            newest = ocp.args.Composite(state=ocp.args.StandardRestore())
            tree = checkpoints.restore(checkpoints.latest_step(), args=newest).state
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            arrays[f"{phase.name}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
    return arrays


def assert_equal_up_to_rounding(actual: np.ndarray, expected: np.ndarray, name: str) -> None:
    """Equal to 2e-5 and a thousandth, but for one entry in a thousand, which may be 1e-4 off.

    Adam divides a gradient by its own size: where that is near zero, a rounding moves an update of 1e-3 visibly.
    """
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4, err_msg=name)
    far = ~np.isclose(actual, expected, rtol=1e-3, atol=2e-5)
    assert far.mean() <= 1e-3, f"{name}: {far.sum()} of {far.size} entries differ by more than 2e-5"


def files(folder: Path) -> dict[str, str]:
    """The rows a run leaves, by file; wall-clock times are not among them."""
    names = [*folder.glob("**/metrics.jsonl"), *folder.glob("**/results.csv")]
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(names)}


def pretrain(name: str, config: ConfigDict, recording: Recording, workdir: Path) -> TrainedModel:
    """A world model of a run that has no simulator."""
    run, teacher = run_of(config, recording, workdir), None
    if (before := teacher_run(run, name)) is not None:
        teacher = pretrain(name, before.config, recording, workdir)
    with pretraining(run, name, teacher) as phase:
        return run_phase(phase, run.cadence)


def run_of(config: ConfigDict, recording: Recording, workdir: Path = Path()) -> Run:
    """A run without a simulator."""
    return Run(config, workdir, task=None, recording=recording, evaluator=None)
