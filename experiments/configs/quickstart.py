"""DWM-TD3BC against TD3+BC and OneStep-TD3BC on maze2d-umaze, small enough for a laptop.

    python -m dwm_jax.train --config experiments/configs/quickstart.py --workdir runs/quickstart

A denoiser of 1.4 million parameters, 60,000 recorded steps, 5 seeds; times and scores as measured are in RESULTS.md.
"""

from ml_collections import ConfigDict

from dwm_jax.config import default_config
from experiments.configs.small import shrink_models


def get_config() -> ConfigDict:
    config = default_config()
    config.task = "maze2d-umaze"
    config.methods = "DWM-TD3BC,TD3+BC,OneStep-TD3BC"
    config.updates_per_dispatch = 250
    config.checkpoint_every = 1_000
    config.data.num_steps = 60_000

    shrink_models(config, num_updates=4_000)

    config.policy.num_updates = 4_000
    config.policy.horizon = 7
    config.policy.return_to_go = 0.6
    config.policy.imagined_per_pair = 1
    config.evaluation.every = 1_000
    config.diagnostics.sampling_horizons = ()  # saves their compilation; see maze2d.py
    return config
