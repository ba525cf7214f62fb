"""Every phase of the quickstart at the smallest size: checks an installation.

    python -m dwm_jax.train --config experiments/configs/smoke.py --workdir runs/smoke

Reproduces: nothing; its scores mean nothing. `python -m experiments.sweep all` runs every study on it.

Time: not measured here; nearly all of it is compilation.
"""

from ml_collections import ConfigDict

from dwm_jax.config_files import load


def get_config() -> ConfigDict:
    config = load("quickstart")
    config.num_seeds = 2
    config.updates_per_dispatch = 10
    config.checkpoint_every = 20
    config.data.num_steps = 3_000
    small = {
        "num_updates": 40,
        "distil_updates": 40,
        "batch_size": 16,
        "sequence_length": 4,
        "num_diffusion_steps": 5,
        "num_sampling_steps": 3,
        "width": 32,
        "multipliers": (1, 2),
        "hidden": (32, 32),
        "inverse_hidden": (32,),
        "num_layers": 1,
    }
    for settings in config.world_models.values():
        settings.update({key: value for key, value in small.items() if key in settings})
    config.policy.num_updates = 40
    config.policy.batch_size = 16
    config.policy.horizon = 3
    config.policy.largest_error = 10.0  # looked at, and large enough for a world model that has learnt next to nothing
    config.policy.refresh_every = config.policy.imagined_pairs = 0  # there are fewer pairs than the quickstart imagines
    config.policy.pessimism.num_samples = 2
    for settings in config.learners.values():
        settings.update({"hidden": (32, 32)} if "hidden" in settings else {})
    config.evaluation.every = 20
    config.evaluation.episodes = 2
    return config
