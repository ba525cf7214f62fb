"""DWM-TD3BC, TD3+BC and OneStep-TD3BC on a locomotion data set, with small models.

    python -m dwm_jax.data prepare hopper-medium --file hopper_medium.hdf5
    python -m dwm_jax.train --config experiments/configs/locomotion.py:hopper-medium --workdir runs/hopper-medium

The argument is any task that `python -m dwm_jax.data list` shows. `python -m experiments.sweep --scale small` starts
from this config on locomotion. The paper's sizes are those of `experiments/configs/paper.py`.

Reproduces: the crossing of the prediction errors, DWM's below the one-step model's from step 3 on; the scores are of
6,000 updates, a hundredth of the paper's, and do not tell the methods apart.

Time: 10 min 0 s for 200,080 recorded steps of Hopper, on 2 virtual cores of an Intel Xeon at 2.7 GHz beside other
work.
Score (0-1), 3 seeds, on that data, which is not D4RL's: DWM-TD3BC 0.25 ± 0.06, TD3+BC 0.20 ± 0.05,
OneStep-TD3BC 0.24 ± 0.13; other tasks: not measured here.
Source: RESULTS.md, "Hopper medium, small models".
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
    config.checkpoint_every = 2_500

    shrink_models(config, num_updates=10_000)
    # A small denoiser that puts out the noise itself sends a quarter of HalfCheetah's imagined numbers to the edge of
    # the data's range.
    config.world_models.dwm.prediction = "velocity"

    config.policy.num_updates = 15_000
    config.policy.horizon = 7
    config.policy.return_to_go = 0.7
    # One imagined number in sixty lies on the edge of Hopper's data; with them critics grow without bound.
    config.policy.clipped_tail = 0.01
    config.evaluation.every = 2_500
    return config
