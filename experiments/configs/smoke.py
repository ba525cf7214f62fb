"""Every phase of the quickstart in under a minute: checks an installation; its scores mean nothing.

python -m dwm_jax.train --config experiments/configs/smoke.py --workdir runs/smoke
"""

from ml_collections import ConfigDict

from experiments.configs import quickstart


def get_config() -> ConfigDict:
    config = quickstart.get_config()
    config.num_seeds = 2
    config.updates_per_dispatch = 10
    config.checkpoint_every = 20
    config.data.num_steps = 3_000
    for world_model in config.world_models.values():
        world_model.num_updates = 40
        world_model.batch_size = 16
    config.world_models.dwm.sequence_length = 4
    config.world_models.dwm.width = 32
    config.world_models.dwm.multipliers = (1, 2)
    config.world_models.one_step.hidden = (32, 32)
    config.policy.num_updates = 40
    config.policy.batch_size = 16
    config.policy.horizon = 3
    config.policy.imagined_per_pair = 1
    config.learners.td3_bc.hidden = (32, 32)
    config.evaluation.every = 20
    config.evaluation.episodes = 2
    return config
