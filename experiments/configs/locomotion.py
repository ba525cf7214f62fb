"""DWM-TD3BC, TD3+BC and OneStep-TD3BC on a locomotion data set, with small models.

    python -m dwm_jax.data prepare hopper-medium --file hopper_medium.hdf5
    python -m dwm_jax.train --config experiments/configs/locomotion.py:hopper-medium --workdir runs/hopper-medium

The argument is any task that `python -m dwm_jax.data list` shows. Under 30 minutes on 2 CPU cores for 200,000
recorded steps of Hopper; the scores measured are in RESULTS.md. The paper's sizes are those of
`dwm_jax.config.default_config()`.
"""

from ml_collections import ConfigDict

from dwm_jax.config import default_config
from experiments.configs.small import shrink_models


def get_config(task: str = "hopper-medium") -> ConfigDict:
    config = default_config()
    config.task = task
    config.methods = "DWM-TD3BC,TD3+BC,OneStep-TD3BC"
    config.num_seeds = 3
    config.updates_per_dispatch = 500
    config.checkpoint_every = 1_000

    shrink_models(config, num_updates=5_000)

    config.policy.num_updates = 6_000
    config.policy.horizon = 5
    config.policy.return_to_go = 0.7
    config.policy.imagined_per_pair = 1
    config.evaluation.every = 2_000
    return config
