"""DWM-TD3BC on one of the paper's tasks, at the paper's sizes and number of updates.

    python -m dwm_jax.data prepare hopper-medium-v2
    python -m dwm_jax.train --config experiments/configs/paper.py:hopper-medium-v2 --workdir runs/hopper-medium-v2

The argument is a D4RL task: {hopper,walker2d,halfcheetah}-{medium,medium-replay,medium-expert}-v2,
maze2d-{umaze,medium,large}-v1 or antmaze-umaze-v2, or another that `python -m dwm_jax.data list` shows; as published,
or with ",recommended" behind it by the recommended recipe (dwm_jax/recipes.py). Sizes are those of
`dwm_jax.config.default_config()`; horizon 5, and the middle of the returns-to-go that the paper searched for the task
(it names none for the mazes: the default stays).

Reproduces: a cell of the table of returns, without its search over horizon and return-to-go, which
`python -m experiments.sweep main --scale paper` makes.

Time and score: not measured here. The paper's scores are in experiments/studies/paper/returns.csv.
"""

from ml_collections import ConfigDict

from dwm_jax.config import default_config
from dwm_jax.recipes import task_and_recipe

# The evaluation's returns-to-go that the paper searched, by robot and data, in units of the robot's return scale.
RETURNS_TO_GO = {
    "hopper-medium": (0.6, 0.7, 0.8),
    "hopper-medium-replay": (0.6, 0.7, 0.8),
    "hopper-medium-expert": (0.7, 0.8, 0.9),
    "walker2d-medium": (0.6, 0.7, 0.8),
    "walker2d-medium-replay": (0.6, 0.7, 0.8),
    "walker2d-medium-expert": (0.8, 0.9, 1.0),
    "halfcheetah-medium": (0.4, 0.5, 0.6),
    "halfcheetah-medium-replay": (0.4, 0.5, 0.6),
    "halfcheetah-medium-expert": (0.6, 0.7, 0.8),
}


def get_config(argument: str = "hopper-medium-v2") -> ConfigDict:
    task, apply_recipe = task_and_recipe(argument, default="paper")
    config = default_config()
    apply_recipe(config)
    config.task = task
    searched = RETURNS_TO_GO.get(task.removesuffix("-v2"))
    if searched:
        config.policy.return_to_go = searched[1]
    return config
