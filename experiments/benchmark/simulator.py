"""Evaluation: policies in the simulator, as a run evaluates them."""

import jax
import numpy as np

from dwm_jax.data.tasks import get_task
from dwm_jax.learners.policies import Acting, make_act_everywhere
from dwm_jax.maths.normalizers import fit_standard
from dwm_jax.registry import LEARNERS
from dwm_jax.results.evaluator import Evaluator

from .figures import Figure, rate
from .settings import SIZES, Plan
from .timing import time_in_turns

TASK = "maze2d-umaze"


def measure_evaluation(size_name: str, plan: Plan) -> list[Figure]:
    """Environment steps per second of an `Evaluator` with the config's seeds and episodes; policies untrained."""
    config, effort = SIZES[size_name].make_config(), plan.effort()
    num_seeds, episodes = config.num_seeds, config.evaluation.episodes
    learner = LEARNERS["td3_bc"](observation_size=4, action_size=2, num_updates=20, **config.learners.td3_bc.to_dict())
    states_S = jax.jit(jax.vmap(learner.init))(jax.random.split(jax.random.key(0), num_seeds))
    acting = Acting(learner.inference(states_S), fit_standard(np.array([[-1.0] * 4, [1.0] * 4])))
    act = make_act_everywhere(learner)

    evaluator = Evaluator(get_task(TASK, num_steps=0, seed=0).make_env, num_seeds, episodes, config.evaluation.seed)
    steps_taken = []

    def run() -> None:
        calls = 0

        def policy(observation_SEO: np.ndarray) -> np.ndarray:
            nonlocal calls
            calls += 1
            return np.asarray(act(acting, observation_SEO))

        evaluator(policy)
        steps_taken.append(calls * num_seeds * episodes)

    timings = time_in_turns({"evaluation": run}, effort)
    evaluator.close()
    settings = {"task": TASK, "num_seeds": num_seeds, "episodes": episodes, "steps_per_evaluation": steps_taken[-1]}
    return [
        rate(
            "evaluation",
            size_name,
            f"{TASK}, {num_seeds} policies x {episodes} episodes",
            "environment steps/s",
            steps_taken[-1],
            timings["evaluation"],
            settings=settings,
        )
    ]
