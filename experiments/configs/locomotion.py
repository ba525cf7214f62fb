"""DWM-TD3BC, TD3+BC and OneStep-TD3BC on a locomotion data set, with small models.

    python -m dwm_jax.data prepare hopper-medium --file hopper_medium.hdf5
    python -m dwm_jax.train --config experiments/configs/locomotion.py:hopper-medium --workdir runs/hopper-medium

The argument is any task that `python -m dwm_jax.data list` shows; by the recommended recipe, or with ",paper" behind it
as published. `python -m experiments.sweep --scale small` starts from this config on locomotion; the paper's sizes are
in `experiments/configs/paper.py`.

Reproduces: the paper's comparison on locomotion with small models, 100,000 updates (the paper: 500,000) and H = 7, less
where the world model is not to be trusted so far.

Measured on hopper-medium with `--config.policy.num_updates=50000`, on one core of an AMD EPYC (222 GFLOP/s):
Time: 494 s for the world model, then 352 s for the policies of DWM-TD3BC.
Score (0-1), 5 seeds, last three evaluations: DWM-TD3BC 0.67 ± 0.23, TD3+BC 0.31 ± 0.03, OneStep-TD3BC 0.40 ± 0.07.
Source: RESULTS.md, "Six locomotion sets under TD3+BC".
"""

from ml_collections import ConfigDict

from dwm_jax.config import default_config
from dwm_jax.recipes import shrink_models, task_and_recipe


def get_config(argument: str = "hopper-medium") -> ConfigDict:
    task, apply_recipe = task_and_recipe(argument, default="recommended")
    config = default_config()
    apply_recipe(config)
    config.task = task
    config.methods = "DWM-TD3BC,TD3+BC,OneStep-TD3BC"
    config.num_seeds = 3
    config.updates_per_dispatch = 500
    config.checkpoint_every = 5_000

    # After 10,000 the loss still falls, and policies are worse for it (experiments/measured/README.md).
    shrink_models(config, num_updates=30_000)
    config.policy.num_updates = 100_000
    config.policy.horizon = 7
    config.policy.return_to_go = 0.7
    config.evaluation.every = 5_000
    return config
