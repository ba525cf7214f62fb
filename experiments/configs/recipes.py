"""The two recipes: how a run treats what the paper's settings leave open to go wrong. Sizes are not theirs to say.

*paper* is the method as published. *recommended* differs from it in what RESULTS.md measures, one by one, under
"Attribution". Every method of a comparison gets the same recipe, those without a world model included.
"""

from collections.abc import Callable

from ml_collections import ConfigDict


def paper(config: ConfigDict) -> None:
    """As published: noise prediction between empirical CDFs, no terminations, one return for all, plain critics."""
    _set(
        config,
        normalizer="cdf",
        prediction="noise",
        terminations=False,
        quantile=0.0,
        ask="constant",
        norm=False,
        starts=0.0,
    )


def recommended(config: ConfigDict) -> None:
    """Falls that are known, imagined states where the data are, returns within reach, critics that hold."""
    _set(
        config,
        # The empirical CDF spreads a few extreme values over much of its range: a small error there is a wild state.
        normalizer="standard",
        # Trained alike at every diffusion step, the last one - where sampling starts - included.
        prediction="velocity",
        # Imagined falls end the trajectory; otherwise the fallen are worth a healthy robot's return.
        terminations=True,
        # One return for all asks a falling robot not to fall, and the world model obliges.
        quantile=0.9,
        ask="reachable",
        # Every evaluation begins where few pairs are: a policy that stands still there shows nothing of what it learnt.
        starts=0.1,
        # ReLU critics extrapolate at states no update visits, and bootstrap what they extrapolate.
        norm=True,
    )


# What the recommended recipe adds, part by part: the overrides that take one away again.
WITHOUT: dict[str, dict[str, str]] = {
    "normaliser": {"world_models.dwm.observation_normalizer": "cdf"},
    "velocity": {"world_models.dwm.prediction": "noise"},
    "terminations": {"world_models.dwm.terminations": "False"},
    "reachable": {"policy.ask": "constant"},
    "layer_norm": {"learners.td3_bc.layer_norm": "False", "learners.iql.layer_norm": "False"},
    "starts": {"policy.start_share": "0.0"},
}
RECIPES: dict[str, Callable[[ConfigDict], None]] = {"paper": paper, "recommended": recommended}


def task_and_recipe(argument: str, default: str) -> tuple[str, Callable[[ConfigDict], None]]:
    """Reads a config file's argument "TASK" or "TASK,RECIPE".

    Raises:
      ValueError: an unknown recipe.
    """
    task, _, recipe = argument.partition(",")
    if (recipe or default) not in RECIPES:
        raise ValueError(f"{argument}: unknown recipe {recipe!r}; known: {', '.join(RECIPES)}")
    return task, RECIPES[recipe or default]


def _set(
    config: ConfigDict,
    *,
    normalizer: str,
    prediction: str,
    terminations: bool,
    quantile: float,
    ask: str,
    norm: bool,
    starts: float,
) -> None:
    everywhere = {
        "observation_normalizer": normalizer,
        "prediction": prediction,
        "terminations": terminations,
        "reachable_quantile": quantile,
    }
    for settings in config.world_models.values():
        settings.update({key: value for key, value in everywhere.items() if key in settings})
    for settings in config.learners.values():
        settings.layer_norm = norm
    config.policy.ask = ask
    config.policy.start_share = starts
