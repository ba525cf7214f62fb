"""The tables of a run's summary, as Markdown: its methods, their critics and the world models they learnt from."""

from collections.abc import Mapping, Sequence

import numpy as np

from dwm_jax.results.diagnostics import Diagnosis
from dwm_jax.results.labels import model_of_label
from dwm_jax.results.scores import CriticCheck, Curve, final_scores, format_spread, remark_on_origin


def make_method_table(
    curves: Sequence[Curve],
    pretraining: Mapping[str, float],
    learning: Mapping[str, float],
    acting: Mapping[str, float],
) -> str:
    """The table of the methods as Markdown.

    Args:
      curves: the scores of every method.
      pretraining, learning: wall seconds by method: of its model (shared by the methods that use it), and of
        imagining, learning and evaluating.
      acting: wall seconds of one decision, by method.
    """
    lines = [
        "Score: mean and standard deviation over seeds (each seed's mean over its evaluation episodes), at the last "
        "evaluation and averaged over the last three. 0-100 is D4RL's scale, 0-1 the paper's. Pretraining is that of "
        "the method's model, which methods share; learning is imagination, updates and evaluation of all seeds.",
        "",
        "| method | seeds | updates | last (0-100) | last (0-1) | mean of last 3 (0-1) | pretraining (s) "
        "| learning (s) | one decision (ms) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for curve in curves:
        last, three = final_scores(curve, 1), final_scores(curve, 3)
        hundred = "raw return" if curve.is_raw else format_spread(100 * last, 1)
        lines.append(
            f"| {curve.method} | {curve.scores.shape[1]} | {curve.steps[-1]} | {hundred} | {format_spread(last, 2)} "
            f"| {format_spread(three, 2)} | {pretraining[curve.method]:.0f} | {learning[curve.method]:.0f} "
            f"| {1000 * acting[curve.method]:.2f} |"
        )
    return "\n".join(lines) + "\n"


def make_critic_table(checks: Mapping[str, CriticCheck], mean_q: Mapping[str, float], mean_label: float) -> str:
    """The table of the critics as Markdown.

    Args:
      checks, mean_q: by method; raw units.
      mean_label: the data's mean return-to-go.
    """
    lines = [
        "Critic values against measured discounted returns, raw units: the critics' value of the initial states of "
        "the last three evaluations, the discounted return that followed, and the mean Q over the last batches; the "
        f"data's mean return-to-go is {mean_label:.4g}.",
        "",
        "| method | critic value at initial states | discounted return | ratio | mean Q over the last batches |",
        "|---|---|---|---|---|",
    ]
    for name, check in checks.items():
        value, measured = check.last
        ratio = f"{value / measured:.2f}" if measured else "-"
        lines.append(f"| {name} | {value:.4g} | {measured:.4g} | {ratio} | {_cell(mean_q[name], 4)} |")
    return "\n".join(lines) + "\n"


def make_model_table(
    found: Mapping[str, Diagnosis],
    pretraining: Mapping[str, float],
    falls: Mapping[str, float],
    horizons: Mapping[str, int],
    origin: str,
    start_steps: int,
) -> str:
    """The table of the world models as Markdown.

    Args:
      found: by label (`results.labels`), distilled models marked or not.
      pretraining: wall seconds by model.
      falls: `fall_of_loss` by model.
      horizons: by model, how many of the steps policies used.
      origin, start_steps: of the segments ("held-out" or "training"), and within how many steps of an episode those at
        starts begin.
    """
    horizon = len(next(iter(found.values())).error.reward)
    lines = [
        f"World models on {origin} segments at the first and the last imagined step{remark_on_origin(origin)}. State: "
        "mean squared error in units of the data's variance, averaged over dimensions; at starts: of segments that "
        f"begin within the first {start_steps} steps of an episode. Spread: variance between draws over the variance "
        "that is unexplained, and, narrowest, the least variance of imagined over recorded states in any tenth of the "
        "segments by label; 1 is right. Energy score: of the distribution of the draws, over that of recorded states "
        "drawn blindly; 0 is right about everything, 1 knows nothing, and a lack of spread costs as errors do. "
        "Terminations: found is the share of recorded terminations that the model had predicted by that step; invented "
        "is the share of segments still running at the last step for which the model had predicted a termination. "
        "Loss fell: by how much the training loss of the last third of the updates lies below that of the third "
        "before; one that fell by more than a few percent was not trained to its end. Steps used by policies: how "
        "many of these steps policies learn from (policy.largest_error).",
        "",
        f"| world model | state, step 1 | state, step {horizon} | at starts, step {horizon} | reward, step 1 "
        f"| reward, step {horizon} "
        f"| spread, step 1 | spread, step {horizon} | narrowest | energy score, step 1 | energy score, step {horizon} "
        f"| terminations found | terminations invented by step {horizon} "
        "| loss fell | steps used by policies | pretraining (s) |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for label, one in found.items():
        name = model_of_label(label)
        fall = f"{falls[name]:.1%}" if np.isfinite(falls[name]) else "-"
        cells = " | ".join(map(_cell, _measurements(one)))
        lines.append(f"| {label} | {cells} | {fall} | {horizons[name]} | {pretraining[name]:.0f} |")
    return "\n".join(lines) + "\n"


def _measurements(one: Diagnosis) -> list[float]:
    """What the table of the world models shows of one, in the order of its columns."""
    state, reward, spread, energy = one.error.observation, one.error.reward, one.spread_over_error, one.energy_score
    spreads = one.variance_by_label[np.isfinite(one.variance_by_label)]
    found = one.terminations.found[np.isfinite(one.terminations.found)]
    return [
        state[0],
        state[-1],
        one.error_at_starts.observation[-1],
        reward[0],
        reward[-1],
        spread[0],
        spread[-1],
        spreads.min() if len(spreads) else np.nan,
        energy[0],
        energy[-1],
        found.mean() if len(found) else np.nan,
        one.terminations.invented[-1],
    ]


def make_value_table(found: Mapping[str, Diagnosis], horizons: Mapping[str, int], gamma: float) -> str:
    """The table of how critics value imagined states, as Markdown.

    A target bootstraps at s_{t+H}. Where V(imagined) = (1 + shift) V(recorded) there, a value whose targets see a
    return R in H steps, and no end, settles at

        V = R + gamma^H (1 + shift) V = R / (1 - gamma^H (1 + shift))    instead of    R / (1 - gamma^H),

    so that a shift that takes about as much as the discount, 1 - gamma^H, halves it.

    Args:
      found: by label (`results.labels`), distilled models marked or not.
      horizons: H by model.
      gamma: the discount.
    """
    rows = []
    for label, one in found.items():
        horizon = horizons[model_of_label(label)]
        for name, agreement in one.values.items():
            shifts = " | ".join(_share(agreement.shift[step - 1]) for step in (1, horizon))
            rows.append(f"| {label} | {name} | {horizon} | {shifts} | {_share(gamma**horizon - 1)} |")
    lines = [
        "The mean value of imagined states over that of recorded ones by the same critics, less 1, at the first step "
        "and at the last that policies use, H. Targets bootstrap there: what imagination takes from the value is lost "
        "in every target anew, beside what discounting over H steps takes. Where a policy acts in the model, what it "
        "gains over the recorded actions is counted, too.",
        "",
        "| world model | critics of | H | imagined states, step 1 | imagined states, step H | discount, H steps |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def _cell(number: float, digits: int = 3) -> str:
    """A number in a table; NaN is one that is not known."""
    return "-" if np.isnan(number) else f"{number:.{digits}g}"


def _share(number: float) -> str:
    """A signed share in a table; NaN is one that is not known."""
    return "-" if np.isnan(number) else f"{number:+.2%}"
