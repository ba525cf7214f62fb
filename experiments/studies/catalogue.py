"""The paper's tables and figures as data: each a grid of runs over the one config.

A study lists its members; a member is one command of `dwm_jax.train`, all seeds side by side. `python -m
experiments.sweep` runs them, each in RUNS/<study>/<task>/<variant>. Members of several studies that are one and the
same run are written alike, and run once.

What the paper searched is the horizon and the evaluation's return-to-go; PQL's kappa stays at the config's. The
scales are those of `experiments/studies/scales.py`.
"""

from collections.abc import Iterator

from dwm_jax.config import default_config
from dwm_jax.recipes import WITHOUT

from ..configs.paper import RETURNS_TO_GO
from .scales import GRIDS
from .study import Cell, make_study
from .variations import (
    AS_CONFIGURED,
    DISTILLED,
    Setting,
    combine,
    horizon_setting,
    long_sequence_setting,
    published_setting,
    return_to_go_setting,
    searched_returns_to_go,
    searched_settings,
    setting_without,
    swept_methods,
    usual_setting,
    whole_horizon_setting,
)

LOCOMOTION = tuple(f"{task}-v2" for task in RETURNS_TO_GO)
MAZES = ("maze2d-umaze-v1", "maze2d-medium-v1", "maze2d-large-v1", "antmaze-umaze-v2")
# What the paper asked of its Transformer: whole undiscounted returns over the return scale. The labels here are
# discounted, about 1 at most, so the usual return-to-go is tried beside it.
TRANSFORMER_RETURNS_TO_GO = {"hopper": 9.0, "walker2d": 9.1, "halfcheetah": 5.0}


# ------------------------------------------------------------------------------------- the studies


def main_table(task: str, scale: str) -> Iterator[Cell]:
    horizons = GRIDS[scale].horizons
    for setting in searched_settings(task, scale, horizons):
        yield ["DWM-TD3BC", "DWM-IQL", "DWM-PQL"], setting
    for steps in horizons:
        yield ["OneStep-TD3BC", "OneStep-IQL", "OneStep-PQL"], horizon_setting(steps)
        yield ["TD3+BC-H", "IQL-H", "PQL-H"], horizon_setting(steps)


def model_free(task: str, scale: str) -> Iterator[Cell]:
    yield ["TD3+BC", "IQL", "PQL"], AS_CONFIGURED


def transformer(task: str, scale: str) -> Iterator[Cell]:
    asked = searched_returns_to_go(task, scale)[:1]
    if scale == "paper":
        asked.append(return_to_go_setting(TRANSFORMER_RETURNS_TO_GO[task.split("-")[0]]))
    for steps in GRIDS[scale].horizons:
        for return_to_go in asked:
            yield ["T-TD3BC", "T-IQL"], combine(whole_horizon_setting(scale), horizon_setting(steps), return_to_go)


def decision_diffuser(task: str, scale: str) -> Iterator[Cell]:
    for asked in searched_returns_to_go(task, scale):
        yield ["DD"], asked


def inference_time(task: str, scale: str) -> Iterator[Cell]:
    yield ["DD"], searched_returns_to_go(task, scale)[0]
    yield ["DWM-TD3BC"], usual_setting(task, scale)


def augmentation(task: str, scale: str) -> Iterator[Cell]:
    yield ["DA-TD3BC", "DA-IQL"], AS_CONFIGURED


def sampling_time(task: str, scale: str) -> Iterator[Cell]:
    horizons = tuple(steps for steps in (1, 3, 5, 7) if steps < GRIDS[scale].sequence_length)
    yield ["DWM", "AD"], Setting("", {"diagnostics.sampling_horizons": str(horizons)})


def long_horizons(task: str, scale: str) -> Iterator[Cell]:
    for setting in searched_settings(task, scale, GRIDS[scale].long_horizons):
        yield swept_methods("DWM", scale), combine(whole_horizon_setting(scale), long_sequence_setting(scale), setting)
    for steps in GRIDS[scale].one_step_horizons:
        yield swept_methods("OneStep", scale), combine(whole_horizon_setting(scale), horizon_setting(steps))


def sequence_length(task: str, scale: str) -> Iterator[Cell]:
    common = [steps for steps in GRIDS[scale].horizons if steps in GRIDS[scale].long_horizons]
    for setting in searched_settings(task, scale, common):
        for length in (AS_CONFIGURED, long_sequence_setting(scale)):
            yield swept_methods("DWM", scale), combine(whole_horizon_setting(scale), length, setting)


def prediction_error(task: str, scale: str) -> Iterator[Cell]:
    longest = {"policy.horizon": str(GRIDS[scale].sequence_length - 1)}
    for seed in range(GRIDS[scale].model_seeds):
        seeds = {f"world_models.{name}.seed": str(seed) for name in ("dwm", "one_step")}
        yield ["DWM", "OneStep"], Setting(f"seed{seed}", longest | seeds)


def diffusion_steps(task: str, scale: str) -> Iterator[Cell]:
    for length, num_diffusion_steps in GRIDS[scale].diffusion_steps:
        for num_sampling_steps in GRIDS[scale].sampling_steps:
            overrides = {
                "policy.horizon": str(length - 1),
                "world_models.dwm.sequence_length": str(length),
                "world_models.dwm.num_diffusion_steps": str(num_diffusion_steps),
                "world_models.dwm.num_sampling_steps": str(num_sampling_steps),
            }
            yield ["DWM"], Setting(f"T{length}-K{num_diffusion_steps}-N{num_sampling_steps}", overrides)


def swept_returns_to_go(task: str, scale: str) -> Iterator[Cell]:
    for value in GRIDS[scale].swept_returns_to_go:
        yield (
            swept_methods("DWM", scale),
            combine(horizon_setting(GRIDS[scale].usual_horizon), return_to_go_setting(value)),
        )


def lambda_return(task: str, scale: str) -> Iterator[Cell]:
    """A learner's own lambda is left to the config: such a run is the main table's."""
    horizons = [GRIDS[scale].usual_horizon] if GRIDS[scale].together else GRIDS[scale].horizons
    own = default_config().policy.lambda_
    for setting in searched_settings(task, scale, horizons):
        for method, learner in (("DWM-TD3BC", "td3_bc"), ("DWM-IQL", "iql")):
            for name, value in (("vanilla", 1.0), ("lambda0.95", 0.95)):
                changed = {} if own[learner] == value else {f"policy.lambda_.{learner}": str(value)}
                yield [method], combine(Setting(name, changed), setting)


def attribution(task: str, scale: str) -> Iterator[Cell]:
    """The whole recommended recipe, each part of it taken away alone, and the recorded steps under the same recipe.

    At the paper's scale, which is the method as published, the parts are not there to be taken away.
    """
    usual_run = usual_setting(task, scale)
    yield ["DWM-TD3BC"], usual_run
    if scale != "paper":
        for part in list(WITHOUT)[: 1 if GRIDS[scale].together else None]:
            yield ["DWM-TD3BC"], combine(setting_without(part), usual_run)
    yield ["TD3+BC-H"], usual_run


def relabelling(task: str, scale: str) -> Iterator[Cell]:
    yield ["DWM-IQL"], usual_setting(task, scale)
    yield ["DWM-IQL+RTG"], usual_setting(task, scale)


def rebrac(task: str, scale: str) -> Iterator[Cell]:
    """All four with the penalties that ReBRAC's authors chose for the task by its scores on recorded single steps."""
    setting = published_setting(task, scale)
    yield ["ReBRAC"], setting
    yield ["ReBRAC-H"], combine(horizon_setting(GRIDS[scale].usual_horizon), setting)
    yield ["DWM-ReBRAC", "OneStep-ReBRAC"], combine(usual_setting(task, scale), setting)


def dawm(task: str, scale: str) -> Iterator[Cell]:
    """Imagined trajectories that critics bootstrap at, the same with pairs among them, and made-up transitions."""
    usual_run = usual_setting(task, scale)
    yield ["DWM-TD3BC", "DWM-IQL"], usual_run
    yield ["DAWM-TD3BC", "DAWM-IQL"], usual_run
    yield ["DA-TD3BC", "DA-IQL"], AS_CONFIGURED


def distillation(task: str, scale: str) -> Iterator[Cell]:
    """The same world model with its sampler as it is and in one pass, under a learner that follows what it imagines."""
    for setting in (AS_CONFIGURED, DISTILLED):
        yield ["DWM-TD3BC"], combine(setting, usual_setting(task, scale))


def mazes(task: str, scale: str) -> Iterator[Cell]:
    yield ["TD3+BC", "IQL"], AS_CONFIGURED
    yield ["DD"], AS_CONFIGURED
    for steps in GRIDS[scale].horizons:
        yield ["DWM-TD3BC", "DWM-IQL"], horizon_setting(steps)


STUDIES = {
    one.name: one
    for one in (
        make_study(
            "main",
            "Main table: one-step and diffusion world model under three learners",
            "the table of normalised returns, searched over H and the evaluation's return-to-go",
            "returns.csv",
            "returns",
            LOCOMOTION,
            main_table,
        ),
        make_study(
            "model_free",
            "Model-free learners on recorded data",
            "the table of normalised returns; PQL by itself is not in it",
            "returns.csv",
            "returns",
            LOCOMOTION,
            model_free,
        ),
        make_study(
            "transformer",
            "Transformer world model against the horizon",
            "the Transformer's table of returns by H",
            "transformer_horizons.csv",
            "horizons",
            LOCOMOTION,
            transformer,
        ),
        make_study(
            "decision_diffuser",
            "Decision Diffuser",
            "the table of normalised returns",
            "returns.csv",
            "returns",
            LOCOMOTION,
            decision_diffuser,
        ),
        make_study(
            "inference_time",
            "Time of a decision: Decision Diffuser and a policy learnt with DWM",
            "the inference times",
            "timing.csv",
            "inference_time",
            LOCOMOTION,
            inference_time,
        ),
        make_study(
            "augmentation",
            "Data augmentation with generated transitions",
            "the table of normalised returns",
            "returns.csv",
            "returns",
            LOCOMOTION,
            augmentation,
        ),
        make_study(
            "sampling_time",
            "Time of 128 trajectories: DWM and autoregressive diffusion",
            "the sampling times by H",
            "timing.csv",
            "sampling_time",
            ("walker2d-medium-v2",),
            sampling_time,
        ),
        make_study(
            "horizons",
            "Long horizons: DWM with a long sequence, one-step model beside it",
            "the table of returns by H up to 31, T = 32, K = 10",
            "horizons.csv",
            "horizons",
            LOCOMOTION,
            long_horizons,
        ),
        make_study(
            "sequence_length",
            "Sequence length: T = 8 against 32 at the same horizons",
            "the comparison of T = 8 and T = 32",
            None,
            "sequence_length",
            LOCOMOTION,
            sequence_length,
        ),
        make_study(
            "prediction_error",
            "Prediction error by step; the one-step model is told the true actions",
            "the figure of prediction errors",
            "prediction_error.csv",
            "prediction_error",
            ("walker2d-medium-expert-v2",),
            prediction_error,
        ),
        make_study(
            "diffusion_steps",
            "Prediction error against training steps K and sampling steps N",
            "the table over K and N, averaged over the tasks",
            "diffusion_steps.csv",
            "diffusion_steps",
            LOCOMOTION,
            diffusion_steps,
        ),
        make_study(
            "attribution",
            "Attribution: the recommended recipe, and each part of it taken away alone",
            "nothing of the paper: it says which part of the recommended recipe does what",
            None,
            "attribution",
            ("hopper-medium-replay-v2", "halfcheetah-medium-replay-v2", "maze2d-medium-v1"),
            attribution,
        ),
        make_study(
            "returns_to_go",
            "Score against the return-to-go asked for in the evaluation",
            "the sweep of the evaluation's return-to-go beside the histogram of the labels",
            None,
            "returns_to_go",
            LOCOMOTION,
            swept_returns_to_go,
        ),
        make_study(
            "lambda_return",
            "Vanilla value expansion against the lambda-return",
            "the table of vanilla and lambda-return",
            "lambda_return.csv",
            "lambda",
            LOCOMOTION,
            lambda_return,
        ),
        make_study(
            "relabelling",
            "Return-to-go relabelling while DWM-IQL learns",
            "the appendix on return-to-go relabelling",
            None,
            "returns",
            LOCOMOTION,
            relabelling,
        ),
        make_study(
            "rebrac",
            "ReBRAC, and what imagined futures add to it",
            "nothing of the paper, which has no ReBRAC",
            None,
            "returns",
            ("hopper-medium-replay-v2", "halfcheetah-medium-replay-v2", "maze2d-medium-v1"),
            rebrac,
        ),
        make_study(
            "dawm",
            "Actions inside the imagined trajectory: DWM, DAWM and augmentation",
            "nothing of the paper: DAWM (Li et al. 2025) is its successor",
            None,
            "returns",
            ("hopper-medium-replay-v2", "halfcheetah-medium-replay-v2", "maze2d-large-v1"),
            dawm,
        ),
        make_study(
            "distillation",
            "Distillation: one pass of the network a trajectory, beside its teacher",
            "nothing of the paper, whose world model takes N guided steps a trajectory",
            None,
            "distillation",
            ("hopper-medium-replay-v2", "halfcheetah-medium-replay-v2", "maze2d-medium-v1"),
            distillation,
        ),
        make_study(
            "mazes",
            "Sparse rewards: maze2d and antmaze",
            "the mazes' rows of the table of normalised returns",
            "returns.csv",
            "returns",
            MAZES,
            mazes,
        ),
    )
}
