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

Time: a cell of umaze takes 172 s (TD3+BC) to 1,350 s (OneStep-PQL), AD-PQL 2,056 s, on one busy core of a virtual Intel
Xeon at 2.7 GHz: upper bounds.
Score (0-1), 5 seeds, last evaluation, umaze: DWM-TD3BC 0.44 ± 0.04, DWM-IQL 0.40 ± 0.03, DWM-PQL 0.37 ± 0.13,
TD3+BC 0.10 ± 0.05, Decision Diffuser 0.30 ± 0.05; medium: DWM-TD3BC -0.02 ± 0.04, DWM-IQL 0.13 ± 0.10,
DWM-PQL 0.11 ± 0.04, TD3+BC 0.03 ± 0.14, Decision Diffuser 0.08 ± 0.04.
Source: RESULTS.md, "Every method on two mazes", which has all the others; large is in "Three mazes, by one command".
"""

from ml_collections import ConfigDict

from dwm_jax.data.maze2d import MAZES
from dwm_jax.registry import METHODS, Learning, Planning
from experiments.configs import quickstart
from experiments.configs.recipes import task_and_recipe
from experiments.configs.small import shrink_models


def get_config(argument: str = "umaze") -> ConfigDict:
    maze, apply_recipe = task_and_recipe(argument, default="recommended")
    if maze not in MAZES:
        raise ValueError(f"grid.py:{maze}: unknown maze; known: {', '.join(MAZES)}")
    config = quickstart.get_config()
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
    config.policy.imagined_per_pair = 2
    config.policy.pessimism.num_samples = 3
    config.evaluation.every = 2_500
    config.checkpoint_every = 500
    config.diagnostics.sampling_horizons = (1, 3, 5, 7)
    return config
