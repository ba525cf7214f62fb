"""Every learner with every source of trajectories, Decision Diffuser and augmentation, small, on a maze2d task.

    python -m dwm_jax.train --config experiments/configs/grid.py:umaze --workdir runs/grid-umaze

The argument is umaze, medium or large, with ",paper" behind it as published; 5 seeds of each method.
`python -m experiments.sweep --scale small` starts from this config on the mazes.

Reproduces: the paper's comparison of methods, with small models, 10,000 updates and H = 7.

Two kinds of methods are left out because each takes several times as long as any other, and can be had by
--config.methods. DWM-IQL+RTG fine-tunes a world model per seed. Autoregressive diffusion follows the policy and is
denoised once per step: drawn afresh it costs ten times any other cell, so the table's AD-TD3BC, AD-IQL and AD-PQL learn
from pools of 10,000 pairs, drawn anew every 1,000 updates:

    --config.methods=AD-TD3BC,AD-IQL,AD-PQL --config.policy.refresh_every=1000 --config.policy.imagined_pairs=10000
    --config.policy.imagined_per_pair=1

Time and score: not measured here by the present recipe. Version 0.2's, on other maze data and without the recommended
recipe, are in experiments/measured/README.md, "Every method on two mazes" and "Three mazes, by one command".
"""

from ml_collections import ConfigDict

from dwm_jax.config_files import load
from dwm_jax.data.maze2d import MAZES
from dwm_jax.recipes import shrink_models, task_and_recipe
from dwm_jax.registry import METHODS, Learning, Planning


def get_config(argument: str = "umaze") -> ConfigDict:
    maze, apply_recipe = task_and_recipe(argument, default="recommended")
    if maze not in MAZES:
        raise ValueError(f"grid.py:{maze}: unknown maze; known: {', '.join(MAZES)}")
    config = load("quickstart")
    apply_recipe(config)
    config.task = f"maze2d-{maze}"
    # Episodes are longer in larger mazes: 200, 150 and 150 of them.
    config.data.num_steps = {"umaze": 60_000, "medium": 90_000, "large": 120_000}[maze]
    config.methods = ",".join(
        name
        for name, method in METHODS.items()
        if isinstance(method, Planning)
        or (isinstance(method, Learning) and method.model != "autoregressive" and not method.relabels_returns)
    )

    shrink_models(config, num_updates=6_000)

    config.policy.num_updates = 10_000
    # Unlike the quickstart: every method's networks are alike, and pools are of all pairs and stay.
    config.learners.td3_bc.hidden = config.learners.iql.hidden
    config.policy.refresh_every = config.policy.imagined_pairs = 0
    config.policy.imagined_per_pair = 2
    config.policy.pessimism.num_samples = 3
    config.evaluation.every = 2_500
    config.checkpoint_every = 500
    config.diagnostics.sampling_horizons = (1, 3, 5, 7)
    return config
