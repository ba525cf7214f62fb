"""The names a config may use: learners, what is pretrained, and the methods they make up.

The paper's methods are cells of the grid learner x trajectory source; a method's name is the paper's, in tables and
files alike. A new learner or model is one line here: its settings become part of the config, its cells of the grid.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from dwm_jax.learners.base import Learner
from dwm_jax.learners.iql import IQL, PQL
from dwm_jax.learners.rebrac import ReBRAC
from dwm_jax.learners.td3_bc import TD3BC
from dwm_jax.world_models.autoregressive import AutoregressiveDiffusion
from dwm_jax.world_models.base import Generator, Model, Planner, WorldModel
from dwm_jax.world_models.decision_diffuser import DecisionDiffuser
from dwm_jax.world_models.distillation import Distilled
from dwm_jax.world_models.dwm import DiffusionWorldModel
from dwm_jax.world_models.inverse_dynamics import InverseDynamicsModel
from dwm_jax.world_models.one_step import Ensemble, OneStep
from dwm_jax.world_models.reachable_return import with_reachable_return
from dwm_jax.world_models.transformer import TransformerWorldModel
from dwm_jax.world_models.transition_diffusion import TransitionDiffusion

Named = TypeVar("Named")


class Registry(dict[str, Named]):
    """What a config, or the files of a run, may name."""

    def __missing__(self, name: str) -> Named:
        raise ValueError(f"unknown name {name!r}; one of your own is registered by naming its module with --import")


LEARNERS: Registry[type[Learner]] = Registry(td3_bc=TD3BC, iql=IQL, pql=PQL, rebrac=ReBRAC)

# What is pretrained on segments; the keys are those of `config.world_models`.
MODELS: Registry[type[Model]] = Registry(
    dwm=DiffusionWorldModel,
    one_step=OneStep,
    ensemble=Ensemble,
    transformer=TransformerWorldModel,
    autoregressive=AutoregressiveDiffusion,
    decision_diffuser=DecisionDiffuser,
    transition_diffusion=TransitionDiffusion,
    inverse_dynamics=InverseDynamicsModel,
)

# The model that infers the actions of imagined steps.
INFERS_ACTIONS = "inverse_dynamics"

# Models that pessimistic learners use in the place of another, because the members of an ensemble can disagree.
REPLACED_FOR_PESSIMISTS = {"one_step": "ensemble"}


class Learning(NamedTuple):
    """A method that learns policies, and from what."""

    learner: str  # a key of LEARNERS
    # A key of MODELS: imagines trajectories, or generates transitions. None: recorded data alone.
    model: str | None = None
    # Whether it learns from the next H = policy.horizon recorded steps, where a learner without a model takes one.
    looks_ahead: bool = False
    # Return-to-go relabelling: the world model is fine-tuned on returns that the learner's values have raised.
    relabels_returns: bool = False
    # Whether imagined steps, with actions inferred for them, are pairs that it learns from.
    infers_actions: bool = False


class Planning(NamedTuple):
    """A method that acts by planning at every step."""

    model: str


class Alone(NamedTuple):
    """A world model by itself: trained and measured, without a policy; later runs find and use it."""

    model: str


Method = Learning | Planning | Alone


def learner_of(method: Method) -> str | None:
    """The learner of a method that has one."""
    return method.learner if isinstance(method, Learning) else None


def models_needed(methods: Iterable[Method]) -> list[str]:
    """Keys of MODELS that the methods need, each once."""
    methods = list(methods)
    infers_actions = any(isinstance(method, Learning) and method.infers_actions for method in methods)
    models = [method.model for method in methods if method.model]
    return list(dict.fromkeys(models + [INFERS_ACTIONS] * infers_actions))


def make_model(name: str, **settings: Any) -> Model:
    """The model of a key of `MODELS`; its sampler distilled, and the quantile of reachable returns beside it, where
    its settings ask.

    Raises:
      ValueError: a setting is not allowed.
    """
    model = MODELS[name](**settings)
    level = getattr(model, "reachable_quantile", 0.0)
    if isinstance(model, DiffusionWorldModel) and model.distil:
        model = Distilled(teacher=model)
    return with_reachable_return(model, level) if isinstance(model, WorldModel) else model


def make_methods() -> Registry[Method]:
    """Every cell of the grid, and what stands beside it."""
    return Registry([*_cells(), *_beside_the_grid()])


def _cells() -> Iterator[tuple[str, Method]]:
    for name, learner in LEARNERS.items():
        yield learner.title, Learning(name)
        yield f"{learner.title}-H", Learning(name, looks_ahead=True)
        for model_name, model in MODELS.items():
            if issubclass(model, WorldModel) and model_name not in REPLACED_FOR_PESSIMISTS.values():
                used = REPLACED_FOR_PESSIMISTS.get(model_name, model_name) if learner.pessimistic else model_name
                yield f"{model.title}-{_short(learner)}", Learning(name, used)
        yield f"DAWM-{_short(learner)}", Learning(name, "dwm", infers_actions=True)


def _beside_the_grid() -> Iterator[tuple[str, Method]]:
    yield "DWM-IQL+RTG", Learning("iql", "dwm", relabels_returns=True)
    for name, learner in LEARNERS.items():
        for model_name, model in MODELS.items():
            if issubclass(model, Generator):
                yield f"{model.title}-{_short(learner)}", Learning(name, model_name)
    for model_name, model in MODELS.items():
        if issubclass(model, Planner):
            yield model.title, Planning(model_name)
    for model_name, model in MODELS.items():
        if issubclass(model, WorldModel):
            yield model.title, Alone(model_name)


def _short(learner: type[Learner]) -> str:
    """As the paper writes a learner behind a world model: TD3BC for TD3+BC."""
    return learner.title.replace("+", "")


METHODS = make_methods()


def add_learner(name: str, learner: type[Learner]) -> None:
    """A learner from outside: the config has its settings from then on, and the grid its cells.

    Args:
      name: its key in LEARNERS.
      learner: its class.
    """
    LEARNERS[name] = learner
    METHODS.update(make_methods())


def add_model(name: str, model: type[Model]) -> None:
    """A world model, planner or generator from outside, as `add_learner`.

    Args:
      name: its key in MODELS.
      model: its class.
    """
    MODELS[name] = model
    METHODS.update(make_methods())


def split_names(methods: str) -> list[str]:
    """The methods that a config's text names, in its order."""
    return [name.strip() for name in methods.split(",") if name.strip()]
