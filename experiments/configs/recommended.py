"""DWM-TD3BC by the recommended recipe, at the paper's sizes and number of updates.

    python -m dwm_jax.data prepare hopper-medium-v2
    python -m dwm_jax.train --config experiments/configs/recommended.py:hopper-medium-v2 --workdir runs/recommended

The argument is any task that `python -m dwm_jax.data list` shows. The same as `paper.py:TASK,recommended`; with small
models it is `locomotion.py:TASK`.

Reproduces: nothing of the paper: the cell of its table of returns that `paper.py` makes, by another recipe.

Time and score: not measured here.
"""

from ml_collections import ConfigDict

from dwm_jax.config_files import load


def get_config(argument: str = "hopper-medium-v2") -> ConfigDict:
    return load(f"paper:{argument},recommended")
