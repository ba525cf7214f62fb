# %% [markdown]
"""Reading a run in a notebook: scores, losses, the policy, and the world model asked what comes next.

    python -m experiments.tutorials.reading_results runs/quickstart

You learn: what a run's files hold, which function reads each, and how to get a trained policy and a trained world model
into your hands: two functions of arrays. Run it as it is, or paste the cells, which begin with # %%, into a notebook;
editors that know that mark run them one by one. Any run with a policy and a world model of the grid will do. Where it
has a learner or a model of your own, import its module first.

Takes: 25 s of processor time for the quickstart, most of it the compilation of the sampler.
"""

# %% What reads the files of a run
import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from dwm_jax.phases.pretraining import read_finished_model
from dwm_jax.results import policy_files, scores
from dwm_jax.results.diagnostics import recorded_segments, with_recorded_actions
from dwm_jax.runtime.files import find_json, read_json
from dwm_jax.runtime.row_files import JsonLines, Results
from dwm_jax.types import Array, Key, Segment, Start, Trajectory
from dwm_jax.workdir import reopen_run

# %% Where the run is; in a notebook, instead of this cell: RUN = Path("runs/quickstart")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run", type=Path, metavar="RUN", help="a finished run with a policy and a world model")
RUN = parser.parse_args().run
measured = find_json(RUN / "diagnostics.json") or {}
if not any(RUN.glob("policies/*.npz")) or not measured.get("prediction_error"):
    parser.error(f"{RUN} holds no finished run with policies and a world model (policies/, diagnostics.json)")

# %% Scores: every evaluation episode of every seed is a row; a curve has its means
curves = scores.make_curves(Results(RUN / "results.csv").read())
for curve in curves:
    last = curve.scores[-1]  # one entry per seed
    print(f"{curve.method}: {last.mean():.2f} ± {last.std():.2f} after {curve.steps[-1]:,} updates, {len(last)} seeds")

# %% Losses: one row per dispatch, and per seed where there are seeds
losses = [row for row in JsonLines(RUN / "metrics.jsonl").read() if row["phase"] == curves[0].method]
print(f"{losses[-1]['phase']}, step {losses[-1]['step']}:", sorted(losses[-1].keys() - {"phase", "step", "seed"}))

# %% How good the world models are, on episodes they never saw: mean squared error by step, data's variance 1
for name, error in read_json(RUN / "diagnostics.json")["prediction_error"].items():
    print(f"{name}: state error by step", np.round(error["observation"], 4))

# %% A policy, from its one file: what all seeds do in the same state
policies = policy_files.load(RUN / "policies" / f"{curves[0].method}.npz")
run = reopen_run(RUN)  # its config, its data
dataset = run.recording.dataset
state = dataset.observations[0]
actions = np.asarray(policies.act(np.broadcast_to(state, (len(policies.seeds), 1, len(state))), 0))[:, 0]
print(f"in state {np.round(state, 2)} the seeds of {policies.method} act\n{np.round(actions, 2)}")

# %% A world model: sixteen futures of one recorded pair, told its return-to-go
trained = read_finished_model(run, run.models[0])
horizon = run.config.policy.horizon
world_model: Any = trained.model
rollout = world_model.rollout(horizon, run.config.gamma)
segments = recorded_segments(dataset, np.array([0]), horizon)
segment: Segment = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), segments)


@jax.jit
def imagine(key: Key) -> Trajectory:
    start = Start(segment.observations[0], segment.actions[0], segment.return_to_go)
    return rollout(trained.inference, start, with_recorded_actions(segment), key)


futures: Trajectory = jax.vmap(imagine)(jax.random.split(jax.random.key(0), 16))
spread: Array = futures.next_observations.std(axis=0).mean(axis=-1)
print("spread of the imagined states by step", np.round(np.asarray(spread), 4))

# %% A picture: the first entry of the state, recorded and imagined; in a notebook a last line `figure` shows it
figure = Figure((6, 3.5), layout="constrained")
axes = figure.subplots()
steps = np.arange(1, horizon + 1)
axes.plot(steps, futures.next_observations[:, :, 0].T, color="tab:orange", linewidth=0.8)
axes.plot(steps, segment.observations[1:, 0], color="black", label="recorded")
axes.set_xlabel("step")
axes.set_ylabel("first entry of the state")
axes.legend(frameon=False)
figure.savefig(RUN / "futures.png")
print(f"drawn in {RUN / 'futures.png'}")
