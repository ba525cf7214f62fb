"""The scales of the studies: what each tries, on which tasks, from which config.

"paper" has the paper's tasks, sizes and searches, as published; "paper-recommended" the same by the recommended recipe
(`dwm_jax/recipes.py`). "small" has small models, data prepared locally under names of their own, and fewer
values searched, for a workstation; "smoke" takes minutes and shows that everything works: its scores mean nothing. Both
use the recommended recipe.
"""

from typing import NamedTuple

from dwm_jax.registry import METHODS, Learning

from ..configs.paper import RETURNS_TO_GO

SCALES = ("smoke", "small", "paper", "paper-recommended")
OF_OWN_DATA = "small"  # the scale whose studies also run on data that the paper has not


class Grid(NamedTuple):
    """What a scale tries."""

    horizons: tuple[int, ...]  # searched; below T
    usual_horizon: int  # where it is not searched
    num_returns_to_go: int  # searched, of the paper's three
    sequence_length: int  # T
    long_sequence_length: int
    long_horizons: tuple[int, ...]
    one_step_horizons: tuple[int, ...]  # beside the long ones
    swept_returns_to_go: tuple[float, ...]  # in the study of that number alone
    swept_learners: tuple[str, ...]  # in the studies of one number alone
    diffusion_steps: tuple[tuple[int, int], ...]  # (T, K), each with every N of the next
    sampling_steps: tuple[int, ...]
    model_seeds: int  # world models whose prediction errors are averaged
    # Whether the methods of a setting share a run: its start costs more than they do.
    together: bool = False


GRIDS = {
    "smoke": Grid(
        horizons=(1, 3),
        usual_horizon=3,
        num_returns_to_go=1,
        sequence_length=4,
        long_sequence_length=8,
        long_horizons=(3, 7),
        one_step_horizons=(3,),
        swept_returns_to_go=(0.3, 0.9),
        swept_learners=("TD3BC",),
        diffusion_steps=((4, 5),),
        sampling_steps=(1, 3),
        model_seeds=1,
        together=True,
    ),
    "small": Grid(
        horizons=(3, 7),
        usual_horizon=7,
        num_returns_to_go=1,
        sequence_length=8,
        long_sequence_length=32,
        long_horizons=(1, 7, 31),
        one_step_horizons=(1, 3, 5),
        swept_returns_to_go=(0.3, 0.5, 0.7, 0.9),
        swept_learners=("TD3BC",),
        diffusion_steps=((8, 5), (8, 10), (8, 20)),
        sampling_steps=(1, 3, 5),
        model_seeds=3,
    ),
    "paper": Grid(
        horizons=(1, 3, 5, 7),
        usual_horizon=5,
        num_returns_to_go=3,
        sequence_length=8,
        long_sequence_length=32,
        long_horizons=(1, 3, 7, 15, 31),
        one_step_horizons=(1, 2, 3, 4, 5),
        swept_returns_to_go=(0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        swept_learners=("TD3BC", "IQL"),
        diffusion_steps=((8, 5), (8, 10), (8, 20), (8, 30), (8, 50), (8, 100), (32, 5), (32, 10), (32, 20)),
        sampling_steps=(1, 2, 3, 5),
        model_seeds=5,
    ),
}
GRIDS["paper-recommended"] = GRIDS["paper"]
# The paper's updates of a policy by its source of trajectories (None: recorded); elsewhere it says nothing.
NUM_UPDATES = {None: 1_000_000, "transition_diffusion": 1_000_000, "one_step": 200_000, "ensemble": 200_000}
NUM_UPDATES_ELSEWHERE = 500_000  # DWM's
NUM_UPDATES_OF_SMALL_IQL = 60_000


def stand_in(task: str, scale: str) -> str:
    """The task that stands for one of the paper's at a scale.

    "small" has no walker2d, whose place hopper takes, and no antmaze, whose place the smallest maze takes.
    """
    if GRIDS[scale] is GRIDS["paper"]:
        return task
    if scale == "smoke" or task.startswith("antmaze"):
        return "maze2d-umaze"
    return task.removesuffix("-v1").removesuffix("-v2").replace("walker2d", "hopper")


def config_of(task: str, scale: str) -> str:
    """The config of a task, by name."""
    if scale == "smoke":
        return "smoke"
    if scale == "paper":
        return f"paper:{task}"
    if scale == "paper-recommended":
        return f"recommended:{task}"
    if task.startswith("maze2d-"):
        return f"grid:{task.removeprefix('maze2d-')}"
    return f"locomotion:{task}"


def returns_to_go(task: str, scale: str) -> tuple[float, ...]:
    """What is searched, the middle first; () where the paper names nothing and the config's own is kept."""
    searched = RETURNS_TO_GO.get(task.removesuffix("-v2"), ())
    return (*searched[1:2], *searched[:1], *searched[2:])[: GRIDS[scale].num_returns_to_go]


def num_updates(method: str, task: str, scale: str) -> dict[str, str]:
    """Overrides with the updates of a method's policy where they are not the config's own.

    At the paper's scale they are the paper's, by source; on small locomotion IQL and PQL get fewer: they settle
    earlier, and cost more.
    """
    cell = METHODS[method]
    if not isinstance(cell, Learning):
        return {}
    if GRIDS[scale] is GRIDS["paper"]:
        return {"policy.num_updates": str(NUM_UPDATES.get(cell.model, NUM_UPDATES_ELSEWHERE))}
    is_short = scale == "small" and not task.startswith("maze2d") and cell.learner in ("iql", "pql")
    return {"policy.num_updates": str(NUM_UPDATES_OF_SMALL_IQL)} if is_short else {}
