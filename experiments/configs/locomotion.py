"""DWM-TD3BC, TD3+BC and OneStep-TD3BC on a locomotion data set, with small models.

    python -m dwm_jax.data prepare hopper-medium --file hopper_medium.hdf5
    python -m dwm_jax.train --config experiments/configs/locomotion.py:hopper-medium --workdir runs/hopper-medium

The argument is any task that `python -m dwm_jax.data list` shows; by the recommended recipe, or with ",paper" behind
the task as published. `python -m experiments.sweep --scale small` starts
from this config on locomotion. The paper's sizes are those of `experiments/configs/paper.py`.

Reproduces: of the paper the crossing of the prediction errors, DWM's below the one-step model's from the second step on
Hopper; the scores are those of 15,000 updates, a thirtieth of the paper's, and hardly tell the methods apart.

Time: hopper-medium on one virtual core of an Intel Xeon at 2.7 GHz, after the world models (five to twelve minutes):
DWM-TD3BC 275 s, OneStep-TD3BC 312 s, TD3+BC 184 s.
Score (0-1), 3 seeds, last evaluation, on data that are not D4RL's: hopper-medium DWM-TD3BC 0.30 ± 0.00,
OneStep-TD3BC 0.33 ± 0.03, TD3+BC 0.31 ± 0.12; hopper-medium-expert 0.36 ± 0.11 and 0.34 ± 0.04 (TD3+BC not measured).
Source: RESULTS.md, "Hopper and HalfCheetah: the small main table", which has five other data sets and IQL.
"""

from ml_collections import ConfigDict

from dwm_jax.config import default_config
from experiments.configs.recipes import task_and_recipe
from experiments.configs.small import shrink_models


def get_config(argument: str = "hopper-medium") -> ConfigDict:
    task, apply_recipe = task_and_recipe(argument, default="recommended")
    config = default_config()
    apply_recipe(config)
    config.task = task
    config.methods = "DWM-TD3BC,TD3+BC,OneStep-TD3BC"
    config.num_seeds = 3
    config.updates_per_dispatch = 500
    config.checkpoint_every = 2_500

    shrink_models(config, num_updates=10_000)
    config.policy.num_updates = 15_000
    config.policy.horizon = 7
    config.policy.return_to_go = 0.7
    config.evaluation.every = 2_500
    return config
