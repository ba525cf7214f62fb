"""ReBRAC on a D4RL task, set as its authors set it there.

    python -m dwm_jax.data prepare hopper-medium-v2
    python -m dwm_jax.train --config experiments/configs/rebrac.py:hopper-medium-v2 --workdir runs/rebrac-hopper-medium

The argument is a D4RL locomotion, maze2d, antmaze or adroit task. The penalties beta_1 (actor) and beta_2 (critic) were
searched by the authors for every data set, learning rates and batch for every family; `PUBLISHED` has them. The study
`rebrac` (`python -m experiments.sweep rebrac`) sets penalties and learning rates from here too.

Reproduces: the published ReBRAC (Tarasov et al. 2023, arXiv 2305.09836), with the differences that
`dwm_jax/learners/rebrac.py` names.

Time and score: not measured here. What others report of it is in experiments/studies/peers.csv.
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from dwm_jax.config import default_config
from dwm_jax.data.d4rl_tasks import D4RL_TASKS
from dwm_jax.recipes import apply_paper


class Published(NamedTuple):
    """What the authors set on one data set."""

    actor_penalty: float  # beta_1
    critic_penalty: float  # beta_2
    learning_rate: float
    critic_learning_rate: float
    batch_size: int
    gamma: float = 0.99
    reward_scale: float = 1.0

    @property
    def of_learner(self) -> dict[str, float]:
        """What of it are settings of the learner."""
        names = ("actor_penalty", "critic_penalty", "learning_rate", "critic_learning_rate", "reward_scale")
        return {name: getattr(self, name) for name in names}


# Source: the configurations of the authors' group, CORL, configs/offline/rebrac (github.com/tinkoff-ai/CORL, files as
# of dc2237b, 42c9793 and d05f4d2), with which CORL's scores in peers.csv were measured.
_LOCOMOTION = {
    "halfcheetah-random": (0.001, 0.1),
    "halfcheetah-medium": (0.001, 0.01),
    "halfcheetah-medium-replay": (0.01, 0.001),
    "halfcheetah-medium-expert": (0.01, 0.1),
    "halfcheetah-expert": (0.01, 0.01),
    "halfcheetah-full-replay": (0.001, 0.1),
    "hopper-random": (0.001, 0.01),
    "hopper-medium": (0.01, 0.01),
    "hopper-medium-replay": (0.05, 0.5),
    "hopper-medium-expert": (0.1, 0.01),
    "hopper-expert": (0.1, 0.1),
    "hopper-full-replay": (0.01, 0.01),
    "walker2d-random": (0.01, 0.0),
    "walker2d-medium": (0.05, 0.1),
    "walker2d-medium-replay": (0.05, 0.01),
    "walker2d-medium-expert": (0.01, 0.01),
    "walker2d-expert": (0.01, 0.5),
    "walker2d-full-replay": (0.01, 0.01),
}
_MAZE2D = {f"maze2d-{maze}": (0.003, 0.001) for maze in ("umaze", "medium", "large")}
_ANTMAZE = {
    "antmaze-umaze": (0.003, 0.002),
    "antmaze-umaze-diverse": (0.003, 0.001),
    "antmaze-medium-play": (0.001, 0.0005),
    "antmaze-medium-diverse": (0.001, 0.0),
    "antmaze-large-play": (0.002, 0.001),
    "antmaze-large-diverse": (0.002, 0.002),
}
_ADROIT = {
    "pen-human": (0.1, 0.5),
    "pen-cloned": (0.05, 0.5),
    "pen-expert": (0.01, 0.01),
    "door-human": (0.1, 0.1),
    "door-cloned": (0.01, 0.1),
    "door-expert": (0.05, 0.01),
    "hammer-human": (0.01, 0.5),
    "hammer-cloned": (0.1, 0.5),
    "hammer-expert": (0.01, 0.01),
    "relocate-human": (0.1, 0.01),
    "relocate-cloned": (0.1, 0.01),
    "relocate-expert": (0.05, 0.01),
}
# By task, without the version.
PUBLISHED = {
    **{task: Published(*penalties, 1e-3, 1e-3, 1024) for task, penalties in _LOCOMOTION.items()},
    **{task: Published(*penalties, 3e-4, 3e-4, 256) for task, penalties in (_MAZE2D | _ADROIT).items()},
    **{task: Published(*penalties, 3e-4, 5e-5, 256, 0.999, 100.0) for task, penalties in _ANTMAZE.items()},
}


def find_published(task: str) -> Published | None:
    """The authors' settings for a task, with or without its version; None where they have none."""
    return PUBLISHED.get(task.rpartition("-v")[0] or task)


def get_config(argument: str = "hopper-medium-v2") -> ConfigDict:
    found = find_published(argument)
    if found is None or argument not in D4RL_TASKS:
        known = ", ".join(task for task in D4RL_TASKS if find_published(task))
        raise ValueError(f"rebrac.py:{argument}: ReBRAC's authors publish no settings for it; they do for {known}")
    config = default_config()
    apply_paper(config)
    config.task = argument
    config.methods = "ReBRAC"
    config.gamma = found.gamma
    config.policy.num_updates = 1_000_000
    config.policy.batch_size = found.batch_size
    config.learners.rebrac.update(found.of_learner)
    return config
