"""Is this data in order? One verdict per question, readable by itself."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dwm_jax.data.actions import ACTION_TOLERANCE
from dwm_jax.data.episode_rows import check_episode
from dwm_jax.data.tasks import Sizes, Task, refuse_other_sizes, try_environment
from dwm_jax.types import Episode

# More repeated transitions than this share are wrong, fewer are worth a note.
MOST_REPEATED = 0.01


class Verdict(NamedTuple):
    """The answer to one question about the data."""

    mark: str  # "ok", "note" (worth knowing, harmless to training) or "wrong"
    question: str
    answer: str


def check_all(episodes: Sequence[Episode], provenance: dict[str, Any]) -> list[Verdict]:
    """All verdicts on a data set.

    Args:
      episodes: as read.
      provenance: what its preparation recorded (`Stored.provenance`); {} where nobody did.
    """
    first = check_shapes(episodes)
    if first.mark == "wrong":  # nothing else can be measured
        return [first]
    return [
        first,
        check_action_bounds(episodes),
        check_boundaries(episodes, provenance),
        check_held_out(episodes),
        check_continuity(provenance),
        check_duplicates(episodes),
        check_constants(episodes),
        check_rewards(episodes),
    ]


def check_environment(task: Task, episodes: Sequence[Episode]) -> Verdict:
    """The environment of the evaluation can be made and run here, has a clock, and fits the data's sizes."""
    question = "environment"
    if not task.has_environment:
        return Verdict("note", question, "none is named: it trains world models; policies need one (prepare --env)")
    try:
        sizes = try_environment(task)
        if episodes:
            first = episodes[0]
            refuse_other_sizes(task, sizes, Sizes(first.observations.shape[1], first.actions.shape[1]))
    except ValueError as error:
        return Verdict("wrong", question, str(error))
    return Verdict("ok", question, "made and stepped: it fits the data's sizes and has a clock")


def check_shapes(episodes: Sequence[Episode]) -> Verdict:
    """Every episode passes `check_episode`: ranks, lengths, finite values."""
    question = "finite, shapes"
    if not episodes:
        return Verdict("wrong", question, "the data set holds no episode")
    try:
        for index, episode in enumerate(episodes):
            check_episode(episode, index, episodes[0].observations.shape[1:])
    except ValueError as error:
        return Verdict("wrong", question, str(error))
    steps = sum(len(episode.actions) for episode in episodes)
    observation_size, action_size = episodes[0].observations.shape[1], episodes[0].actions.shape[1]
    text = f"{steps:,} steps in {len(episodes):,} episodes, {observation_size} observations, {action_size} actions"
    return Verdict("ok", question, text)


def check_action_bounds(episodes: Sequence[Episode]) -> Verdict:
    """Actions lie in [-1, 1]."""
    question = "action bounds"
    largest = [float(np.abs(episode.actions).max()) for episode in episodes]
    index = int(np.argmax(largest))
    if largest[index] > 1 + ACTION_TOLERANCE:
        return Verdict("wrong", question, f"|action| reaches {largest[index]:g} in episode {index}, beyond 1")
    return Verdict("ok", question, f"|action| reaches {largest[index]:.4g}")


def check_boundaries(episodes: Sequence[Episode], provenance: dict[str, Any]) -> Verdict:
    """Terminations, truncations, and whether the clock agrees with them."""
    question = "episode boundaries"
    lengths = np.array([len(episode.actions) for episode in episodes])
    terminated = np.array([episode.terminated for episode in episodes])
    text = f"{terminated.sum():,} terminated, {(~terminated).sum():,} truncated"
    limit = provenance.get("step_limit")
    if limit is None:
        return Verdict("ok", question, f"{text}; no clock is known to compare with")
    if lengths.max() > limit:
        index = int(np.argmax(lengths > limit))
        answer = f"{text}; episode {index} has {lengths[index]:,} steps, the environment's clock allows {limit:,}"
        return Verdict("wrong", question, answer)
    # A time-out without next_observations has lost its last transition, hence is one step shorter than the clock.
    unknown_ends = sum(finding.get("dropped_truncated", 0) for finding in provenance.get("findings", []))
    timed_out = ~terminated & (lengths >= limit - (1 if unknown_ends else 0))
    confused = int((terminated & (lengths == limit)).sum())
    if confused > 1 and confused > timed_out.sum():
        answer = f"{text}; {confused} episodes of exactly {limit:,} steps are terminated: time-outs kept as terminals?"
        return Verdict("wrong", question, answer)
    return Verdict("ok", question, f"{text}; none longer than the clock's {limit:,} steps")


def check_held_out(episodes: Sequence[Episode]) -> Verdict:
    """There is more than one episode: world models are measured on one, at least, that they were not trained on."""
    question = "held-out episodes"
    if len(episodes) > 1:
        return Verdict("ok", question, "at least one can be held out, to measure world models on")
    answer = "none can be held out of a single episode: a world model's error is that on what it was trained on"
    return Verdict("note", question, answer)


def check_continuity(provenance: dict[str, Any]) -> Verdict:
    """s'_t = s_{t+1} inside episodes, as the conversion found it in the files."""
    question = "continuity"
    findings = provenance.get("findings", [])
    if not findings:
        return Verdict("ok", question, "holds by construction: an episode of L steps stores L + 1 observations")
    contradicted = [
        f"{source['file']}: at {finding['cuts']:,} row(s), first row {finding['first_cut']}"
        for source, finding in zip(provenance["sources"], findings, strict=True)
        if finding["cuts"] and finding["timeouts"] == "present"
    ]
    if contradicted:
        answer = (
            f"next_observations differ from the next row's observations where no flag ends an episode: "
            f"{'; '.join(contradicted)}; episodes were cut there"
        )
        return Verdict("wrong", question, answer)
    kinds = {finding["next_observations"] for finding in findings}
    if kinds != {"used"}:
        answer = (
            f"next_observations {' and '.join(sorted(kinds))}: s' = s of the next row cannot be compared; truncated "
            "episodes lost their last transition where they are missing"
        )
        return Verdict("note", question, answer)
    cuts = sum(finding["cuts"] for finding in findings)
    shown = f"; {cuts:,} ends were shown by next_observations alone, the files have no timeouts" if cuts else ""
    return Verdict("ok", question, f"next_observations equal the next row's observations inside episodes{shown}")


def check_duplicates(episodes: Sequence[Episode]) -> Verdict:
    """No episode, and hardly a transition, is there twice. A robot at rest repeats itself, which is worth a note."""
    question = "duplicates"
    hashes = np.concatenate([_row_hashes(episode) for episode in episodes])
    moves = np.concatenate([np.any(np.diff(e.observations, axis=0) != 0, axis=1) for e in episodes])
    starts = np.cumsum([0, *(len(episode.actions) for episode in episodes[:-1])])
    with np.errstate(over="ignore"):
        weights = np.arange(1, max(len(e.actions) for e in episodes) + 1, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        whole = [int((part * weights[: len(part)]).sum()) for part in np.split(hashes, starts[1:])]
    is_moving = np.logical_or.reduceat(moves, starts)
    seen: dict[int, int] = {}
    for index, value in enumerate(whole):
        if is_moving[index] and value in seen:
            moving = [other for other, moved in zip(whole, is_moving, strict=True) if moved]
            count = len(moving) - len(set(moving))
            answer = f"{count:,} episode(s) are there twice; episode {index} is episode {seen[value]} again"
            return Verdict("wrong", question, answer)
        seen[value] = index
    repeated, moving_repeated = _repeats(hashes), _repeats(hashes[moves])
    if not repeated:
        return Verdict("ok", question, "no episode and no transition twice")
    mark = "wrong" if moving_repeated > MOST_REPEATED * len(hashes) else "note"
    at_rest = f"; {repeated - moving_repeated:,} of them stand still" if repeated > moving_repeated else ""
    share = repeated / len(hashes)
    return Verdict(mark, question, f"{repeated:,} transitions ({share:.2%}) repeat another one{at_rest}")


def _repeats(hashes: np.ndarray) -> int:
    return len(hashes) - len(np.unique(hashes))


def check_constants(episodes: Sequence[Episode]) -> Verdict:
    """Observation and action dimensions that never change carry no information."""
    question = "constant dimensions"
    names = []
    for kind in ("observations", "actions"):
        low = np.min([getattr(episode, kind).min(axis=0) for episode in episodes], axis=0)
        high = np.max([getattr(episode, kind).max(axis=0) for episode in episodes], axis=0)
        names += [f"{kind}[{i}] = {low[i]:g}" for i in np.flatnonzero(low == high)]
    if sum(name.startswith("observations") for name in names) == episodes[0].observations.shape[1]:
        return Verdict("wrong", question, f"{', '.join(names)}: a state that never changes leaves nothing to predict")
    if any(name.startswith("actions") for name in names):
        return Verdict("wrong", question, f"{', '.join(names)}: an action that never changes teaches nothing")
    return Verdict("note", question, ", ".join(names)) if names else Verdict("ok", question, "none")


def check_rewards(episodes: Sequence[Episode]) -> Verdict:
    """Rewards tell transitions apart."""
    low = min(float(episode.rewards.min()) for episode in episodes)
    high = max(float(episode.rewards.max()) for episode in episodes)
    if low == high:
        return Verdict("wrong", "rewards", f"all are {low:g}: there is nothing to learn from")
    return Verdict("ok", "rewards", f"from {low:.4g} to {high:.4g}")


def _row_hashes(episode: Episode) -> np.ndarray:
    """A 64-bit hash per transition (s, a, r, s')."""
    parts = [episode.observations[:-1], episode.actions, episode.rewards[:, None], episode.observations[1:]]
    columns = np.concatenate(parts, axis=1)
    words = np.ascontiguousarray(columns, np.float32).view(np.uint32).astype(np.uint64)
    # Odd random multipliers: two different rows collide about once in 2^64 pairs.
    multipliers = np.random.default_rng(0).integers(1, 2**63, words.shape[1], dtype=np.uint64) * np.uint64(2)
    with np.errstate(over="ignore"):
        mixed = ((words + np.uint64(1)) * (multipliers + np.uint64(1))).sum(axis=1, dtype=np.uint64)
        return np.asarray((mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9))
