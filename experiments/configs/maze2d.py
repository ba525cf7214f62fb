"""DWM-TD3BC and its baselines on a maze2d task at the paper's network sizes, on data made on the spot.

    python -m dwm_jax.train --config experiments/configs/maze2d.py:medium --workdir runs/maze2d-medium

The argument is umaze, medium or large; by the recommended recipe, or with ",paper" behind it as published. D4RL's own
recordings are the tasks of `experiments/configs/paper.py`.

Reproduces: the mazes' rows of the table of returns, H = 7.

Time and score: not measured here. The paper's scores of DWM-TD3BC on D4RL's recordings: 0.36, 0.57, 0.28
(experiments/studies/paper/returns.csv).
"""

from ml_collections import ConfigDict

from dwm_jax.config import default_config
from dwm_jax.data.maze2d import MAZES
from dwm_jax.recipes import task_and_recipe


def get_config(argument: str = "umaze") -> ConfigDict:
    maze, apply_recipe = task_and_recipe(argument, default="recommended")
    if maze not in MAZES:
        raise ValueError(f"maze2d.py:{maze}: unknown maze; known: {', '.join(MAZES)}")
    config = default_config()
    apply_recipe(config)
    config.task = f"maze2d-{maze}"
    config.methods = "DWM-TD3BC,TD3+BC,OneStep-TD3BC"
    config.policy.horizon = 7
    return config
