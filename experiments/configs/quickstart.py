"""DWM-TD3BC against TD3+BC and OneStep-TD3BC on maze2d-umaze, small enough for a laptop.

    python -m dwm_jax.train --config experiments/configs/quickstart.py --workdir runs/quickstart

Reproduces: the paper's comparison on sparse rewards, in small: a denoiser of 1.4 million parameters, 60,000 recorded
steps made on the spot, 6,000 updates, 5 seeds.

Time: 2 min 14 s on two virtual cores of an AMD EPYC (222 GFLOP/s on one), nothing beside it; 8 min 56 s on slow ones.
Score (0-1), 5 seeds, last evaluation: DWM-TD3BC 0.22 ± 0.21, TD3+BC -0.09 ± 0.08, OneStep-TD3BC 0.05 ± 0.07.
Source: RESULTS.md, "maze2d-umaze: the quickstart as shipped".
"""

from ml_collections import ConfigDict

from dwm_jax.config import default_config
from dwm_jax.recipes import apply_recommended, shrink_models


def get_config() -> ConfigDict:
    config = default_config()
    config.task = "maze2d-umaze"
    config.methods = "DWM-TD3BC,TD3+BC,OneStep-TD3BC"
    config.updates_per_dispatch = 100
    config.checkpoint_every = 1_000
    config.data.num_steps = 60_000

    apply_recommended(config)
    shrink_models(config, num_updates=2_000)
    config.world_models.one_step.num_updates = 2_000
    config.learners.td3_bc.hidden = (128, 128)

    config.policy.num_updates = 6_000
    # Every thousand updates 8,000 pairs are imagined anew: a learner that sees 128 of them per update wants no more.
    config.policy.refresh_every = 1_000
    config.policy.imagined_pairs = 8_000
    config.policy.horizon = 7
    config.policy.return_to_go = 0.6
    config.evaluation.every = 1_000
    config.diagnostics.sampling_horizons = ()  # saves their compilation; see maze2d.py
    return config
