"""What a finished run shows: its diagnostics, pictures and table, made from its files and its models."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dwm_jax.data import dataset as data
from dwm_jax.learners.policies import TrainedMethod
from dwm_jax.phases import kept_models
from dwm_jax.phases.diagnosis import diagnose
from dwm_jax.phases.held_out import measured_segments, read_trusted_horizon
from dwm_jax.phases.phase import Run
from dwm_jax.phases.pretraining import identity_in_run
from dwm_jax.registry import LEARNERS, METHODS, learner_of, models_needed
from dwm_jax.results import diagnostics, pictures, scores, tables
from dwm_jax.results.diagnostics import Diagnosis
from dwm_jax.results.labels import mark_distilled, model_of_label
from dwm_jax.runtime import files, provenance
from dwm_jax.runtime.progress import say
from dwm_jax.runtime.row_files import OF_A_PHASE, JsonLines, Results
from dwm_jax.world_models.base import TrainedModel, WorldModel

# More learning curves than this hide one another in one panel.
MAX_TOGETHER = 6


def write_summary(run: Run, models: Mapping[str, TrainedModel], methods: Mapping[str, TrainedMethod]) -> str:
    """Measures and draws everything the run has the ingredients for; returns the table."""
    task, recording, folder = run.task, run.recording, run.workdir / "figures"
    rows = [row for row in Results(run.workdir / "results.csv").read() if row.method in methods]
    dataset = recording.dataset
    curves = scores.make_curves(rows)
    labels = dataset.returns_to_go[data.transition_rows(dataset)]
    pictures.draw_returns_to_go(folder / "returns_to_go.png", task.name, labels, run.config.policy.return_to_go)
    acting = {name: diagnostics.time_acting(method.act, dataset.observations[0]) for name, method in methods.items()}
    measured: dict[str, Any] = {"measured_on": provenance.describe_circumstances() | provenance.describe_devices()}
    measured["acting_seconds"] = acting
    shown = [f"# {task.name}\n"]
    if curves:
        draw_learning_curves(folder / "learning_curves.png", task.name, curves)
        pretraining = {name: sum(models[model].seconds for model in models_needed([METHODS[name]])) for name in methods}
        learning = {name: method.seconds for name, method in methods.items()}
        shown.append(tables.make_method_table(curves, pretraining, learning, acting))
    checks = scores.make_critic_checks(rows)
    if checks:
        mean_label = float(labels.mean() * recording.return_scale)
        pictures.draw_critics(folder / "critics.png", task.name, list(checks.values()), mean_label)
        mean_q = {name: mean_q_of(run.workdir, name, method) for name, method in methods.items() if name in checks}
        shown.append(tables.make_critic_table(checks, mean_q, mean_label))
        measured["critics"] = {name: check._asdict() | {"mean_q": mean_q[name]} for name, check in checks.items()}
        measured["mean_return_to_go"] = mean_label
    world_models = {name: trained for name, trained in models.items() if isinstance(trained.model, WorldModel)}
    if world_models:
        try:
            segments = measured_segments(recording, run.config.policy.horizon)
        except ValueError as error:
            say(f"the world models are not measured: {error}")
        else:
            found = diagnose(run, segments, world_models, methods)
            seconds = {name: trained.seconds for name, trained in models.items()}
            named = {label_in_table(run, label): one for label, one in found.items()}
            falls = {name: scores.fall_of_loss(losses_of(run, name)) for name in world_models}
            horizons = {name: read_trusted_horizon(run, name) for name in world_models}
            shown.append(tables.make_model_table(named, seconds, falls, horizons, segments.origin, data.START_STEPS))
            if any(one.values for one in named.values()):
                shown.append(tables.make_value_table(named, horizons, run.config.gamma))
            measured |= by_measurement(found) | {"fall_of_loss": falls, "horizons": horizons}
    files.write(run.workdir / "diagnostics.json", json.dumps(measured, indent=2, default=np.ndarray.tolist) + "\n")
    files.write(run.workdir / "summary.md", "\n".join(shown))
    return "\n".join(shown)


def losses_of(run: Run, name: str) -> np.ndarray:
    """The training losses of a world model, one per dispatch; none where its metrics were not kept."""
    settings = run.config.world_models[name].to_dict()
    folder = kept_models.folder_of(run.config, run.workdir, identity_in_run(run, name))
    label, rows = kept_models.phase_name(name, settings), JsonLines(folder / "metrics.jsonl", OF_A_PHASE).read()
    return np.array([row["world_model/loss"] for row in rows if row["phase"] == label and "world_model/loss" in row])


def label_in_table(run: Run, label: str) -> str:
    """The label as in diagnostics.json, with a distilled model marked."""
    is_distilled = run.config.world_models[model_of_label(label)].get("distil")
    return mark_distilled(label) if is_distilled else label


def draw_learning_curves(path: Path, task_name: str, curves: list[scores.Curve]) -> None:
    """Planners, which are evaluated once, are lines across all panels; where nothing learns they are what is shown."""
    panels, planners = panels_of(curves)
    if panels:
        pictures.draw_learning_curves(path, task_name, panels, planners)
    else:
        pictures.draw_learning_curves(path, task_name, {"": planners})


def panels_of(curves: Sequence[scores.Curve]) -> tuple[dict[str, list[scores.Curve]], list[scores.Curve]]:
    """A few methods share a panel without a title, whatever they learn with; many get one per learner.

    Returns:
      (curves by the title of their panel, the planners).
    """
    by_learner: dict[str | None, list[scores.Curve]] = {}
    for curve in curves:
        by_learner.setdefault(learner_of(METHODS[curve.method]), []).append(curve)
    planners = by_learner.pop(None, [])
    if by_learner and len(curves) <= MAX_TOGETHER:
        return {"": [curve for curve in curves if learner_of(METHODS[curve.method])]}, planners
    return {LEARNERS[learner].title: found for learner, found in by_learner.items() if learner}, planners


def mean_q_of(workdir: Path, name: str, method: TrainedMethod) -> float:
    """The critics' mean over the pairs of the last dispatch's batches, all seeds; raw units; NaN where no row tells."""
    assert method.learnt is not None
    rows = JsonLines(workdir / "metrics.jsonl", OF_A_PHASE).read()
    told = [row for row in rows if row["phase"] == name and "critic/q" in row]
    last = max((row["step"] for row in told), default=None)
    q = np.mean([row["critic/q"] for row in told if row["step"] == last]) if told else np.nan
    return float(q / method.learnt.policies.units.reward_scale)


def by_measurement(found: Mapping[str, Diagnosis]) -> dict[str, Any]:
    """For diagnostics.json: measurement -> world model -> numbers."""
    records = {
        "prediction_error": {label: one.error._asdict() for label, one in found.items()},
        "prediction_error_at_starts": {label: one.error_at_starts._asdict() for label, one in found.items()},
        "calibration": {label: one.calibration._asdict() for label, one in found.items()},
        "calibration_asked": {label: one.calibration_asked._asdict() for label, one in found.items()},
        "terminations": {label: one.terminations._asdict() for label, one in found.items()},
        "spread_over_error": {label: one.spread_over_error for label, one in found.items()},
        "energy_score": {label: one.energy_score for label, one in found.items()},
        "variance_by_label": {label: one.variance_by_label for label, one in found.items()},
        "values": {
            label: {name: of._asdict() for name, of in one.values.items()} for label, one in found.items() if one.values
        },
        "sampling_seconds": {label: one.sampling_seconds for label, one in found.items() if one.sampling_seconds},
    }
    return records
