"""Recordings as flat arrays (the layout of D4RL and OGBench) become episodes; every reward is kept or accounted for.

*Where episodes end.* At `terminals` (terminated) or `timeouts` (truncated; a row with both is terminated). Where
`next_observations` differ from the next row's observations the recording was cut, whatever the flags say: the
episode ends there as a truncation. Arrays without `timeouts` need that proof and are refused without it, unless
`timeouts="none"` says that terminals flag every end (D4RL's kitchen files). What follows the last end is a truncated
episode of its own.

*The last observation of an episode* is that of `next_observations`. Without it,
  - a terminal transition is kept. Its next observation is the following row's where the recording goes on there (see
    `is_continued`), else the terminal row's own state again; its discount is 0, so that only world models see it;
  - a truncated episode loses its last transition, whose next observation nobody knows.
`next_observations` that merely repeat the next row's observations, even across every flagged end, say nothing about
ends and are treated as missing.

*A run of terminals* is one end: the task ended at the first of them. D4RL's antmaze files have such runs, because
their flags were computed afterwards and the ant walked on. The rows behind the first are left out, as a policy is
stopped there too, and their rewards are counted. A row behind a flagged or proven reset (a time-out, or
`next_observations` that differ from it) is no part of the run. What comes after a run is an episode of its own.

*Time-outs that are no resets.* In D4RL's maze2d files `timeouts` mark the goals that were reached; the recording goes
on. Episodes end there all the same, and so returns-to-go look no further than the next goal. With `timeouts="clock"`
a time-out after which the recording goes on ends nothing; instead the environment's clock cuts, and as the row after
such a cut is known, no transition is lost there.

*Rewards of states.* In D4RL's maze2d files reward[t] belongs to observations[t]; its environment, and everything here,
pays the transition for the state it leads to. With `rewards_of_states` each transition is given the reward of the
following row. `next_observations` are not used then: nothing says what their last ones are worth.
"""

from typing import NamedTuple

import numpy as np

from dwm_jax.data.actions import Clipped
from dwm_jax.data.flat_arrays import FlatArrays
from dwm_jax.runtime import interruption
from dwm_jax.types import Episode

# Relative to 1 + |x|: far above float32's rounding, far below any step of a simulation.
CONTINUITY_TOLERANCE = 1e-5
# Each file says so much about itself; a recording is cut here and there, not at every other row.
MOST_CUTS = 0.5
# Rows compared at once, so that the comparison needs no second copy of the data.
BLOCK = 1 << 16


class Findings(NamedTuple):
    """What the conversion of one recording met; kept in the metadata of the data set (JSON)."""

    rows: int
    timeouts: str  # "present" or "absent"
    next_observations: str  # "used", "absent" or "shifted"
    clipped_actions: int  # rows with an action beyond [-1, 1], by rounding or as was asked for
    largest_excess: float  # of the entry furthest beyond
    cuts: int  # ends that only next_observations show
    first_cut: int | None  # row of the first
    trailing_steps: int  # rows after the last end
    dropped_truncated: int  # last rows of truncated episodes whose next observation is unknown
    dropped_behind: int  # rows behind the first of a run of terminals
    rewards_moved: bool  # the file's rewards belong to states; transitions have the following row's
    terminals_followed: int  # terminal rows whose next observation is the following row's, no next_observations
    terminals_repeated: int  # terminal rows whose own state is repeated instead
    reward_recorded: float  # sum of all rewards
    reward_behind: float  # of the rows behind the first of a run of terminals
    reward_kept: float  # of all episodes; what is missing beside reward_behind is the truncated episodes'


class Conversion(NamedTuple):
    """One recording as episodes."""

    episodes: list[Episode]
    findings: Findings


class Layout(NamedTuple):
    """What the arrays do not say themselves."""

    # Steps after which the environment's clock ends an episode; None where there is no clock.
    step_limit: int | None = None
    timeouts: str = "end"  # every time-out ends an episode; or "clock", "none": see above
    rewards_of_states: bool = False  # see above


PLAIN = Layout()
UNCLIPPED = Clipped(0, 0.0)


def convert(arrays: FlatArrays, owner: str, layout: Layout = PLAIN, clipped: Clipped = UNCLIPPED) -> Conversion:
    """The episodes of a recording, in its order.

    Args:
      owner: whose arrays these are, for the messages.
      clipped: what was done to the actions, for the findings.

    Raises:
      ValueError: it is open where episodes end, rows are out of order, or no transition is left.
    """
    reward_recorded = float(arrays.rewards.sum(dtype=np.float64))
    arrays, joins, shifted = _with_informative_ends(arrays, layout)
    behind = _behind_an_end(arrays, joins)
    ends, cuts = _ends(arrays, behind, joins, owner, layout)
    starts = _starts(ends, behind)
    terminated = arrays.terminals[ends]
    is_next_known = np.full(len(ends), arrays.next_observations is not None)
    followed = np.zeros(len(ends), bool)
    if arrays.next_observations is None:
        followed[terminated] = is_continued(arrays, ends[terminated])
    if layout.rewards_of_states:
        arrays = _with_rewards_of_the_next(arrays, ends[terminated & ~followed])
    stretches = list(zip(starts, ends, followed | is_next_known, followed, strict=True))
    if layout.timeouts == "clock" and layout.step_limit is not None:
        stretches = [part for stretch in stretches for part in _cut_by_clock(*stretch, layout.step_limit)]
    episodes = []
    for start, end, known, is_followed in stretches:
        interruption.raise_if_requested()
        episode = _episode(arrays, int(start), int(end), bool(known), bool(is_followed))
        if len(episode.actions):
            episodes.append(episode)
    if not episodes:
        raise ValueError(
            f"{owner}: no transition is left of its {len(arrays.rewards):,} row(s): each is a truncated episode by "
            "itself, whose next observation is unknown; record next_observations"
        )
    is_open = not (_flagged(arrays)[-1] or behind[-1])
    return Conversion(
        episodes,
        Findings(
            rows=len(arrays.rewards),
            timeouts="absent" if arrays.timeouts is None else "present",
            next_observations="used" if arrays.next_observations is not None else "shifted" if shifted else "absent",
            clipped_actions=clipped.rows,
            largest_excess=clipped.largest_excess,
            cuts=len(cuts),
            first_cut=int(cuts[0]) if len(cuts) else None,
            trailing_steps=int(ends[-1] + 1 - starts[-1]) if is_open else 0,
            dropped_truncated=int((~terminated & ~is_next_known).sum()),
            dropped_behind=int(behind.sum()),
            rewards_moved=layout.rewards_of_states,
            terminals_followed=int(followed.sum()),
            terminals_repeated=int((terminated & ~followed & ~is_next_known).sum()),
            reward_recorded=reward_recorded,
            reward_behind=float(arrays.rewards[behind].sum(dtype=np.float64)),
            reward_kept=float(sum(episode.rewards.sum(dtype=np.float64) for episode in episodes)),
        ),
    )


def cut_at_terminals(episode: Episode, terminals: np.ndarray) -> tuple[list[Episode], np.ndarray]:
    """The episodes of a recording whose every next observation is known, and the rows behind an end, (L,) bool.

    Args:
      episode: L steps.
      terminals: (L,) bool, anywhere; a run of them is one end, as above.
    """
    behind = np.zeros(len(terminals), bool)
    behind[1:] = terminals[1:] & terminals[:-1]
    is_end = terminals.astype(bool)
    is_end[-1] = True
    ends = np.flatnonzero(is_end & ~behind)
    pieces = [
        Episode(
            episode.observations[start : end + 2],
            episode.actions[start : end + 1],
            episode.rewards[start : end + 1],
            bool(terminals[end]),
        )
        for start, end in zip(_starts(ends, behind), ends, strict=True)
    ]
    return pieces, behind


def _starts(ends: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """The first rows of the episodes that end at `ends`; rows behind an end are part of none."""
    kept_rows = np.flatnonzero(~behind)
    return np.asarray(kept_rows[np.append(0, np.searchsorted(kept_rows, ends[:-1]) + 1)])


def _with_informative_ends(arrays: FlatArrays, layout: Layout) -> tuple[FlatArrays, np.ndarray | None, bool]:
    """The arrays without what is not informative of ends, their `_joins`, and whether next_observations was dropped."""
    if layout.rewards_of_states:
        arrays = arrays._replace(next_observations=None)
    joins = _joins(arrays)
    shifted = joins is not None and bool(joins.all() and _flagged(arrays)[:-1].any())
    if shifted:
        arrays, joins = arrays._replace(next_observations=None), None
    if layout.timeouts == "clock":
        arrays = _without_mere_marks(arrays, joins)
    return arrays, joins, shifted


def is_continued(arrays: FlatArrays, rows: np.ndarray, through_timeouts: bool = False) -> np.ndarray:
    """Whether the row after each of `rows` continues the recording rather than starting another episode.

    It does where the state moves by no more, in every dimension, than it ever moves between two rows that no flag
    separates. A time-out (unless `through_timeouts`) and the last row go nowhere; without any such pair nothing does.
    """
    separated = _flagged(arrays)[:-1]
    largest = np.full(arrays.observations.shape[1], -np.inf)
    for first in range(0, len(separated), BLOCK):
        together = ~separated[first : first + BLOCK]
        if together.any():
            moved = _moved(arrays.observations, first + np.flatnonzero(together))
            largest = np.maximum(largest, moved.max(axis=0))
    followed = rows < len(separated)
    if arrays.timeouts is not None and not through_timeouts:
        followed &= ~arrays.timeouts[rows]
    rounding = CONTINUITY_TOLERANCE * (1 + np.abs(arrays.observations[rows[followed]]))
    followed[followed] = np.all(_moved(arrays.observations, rows[followed]) <= largest + rounding, axis=1)
    return np.asarray(followed)


def _moved(observations: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.abs(observations[rows + 1].astype(np.float64) - observations[rows])


def _joins(arrays: FlatArrays) -> np.ndarray | None:
    """(N - 1,): next_observations equal the next row's observations; None without next_observations."""
    if arrays.next_observations is None:
        return None
    following, there = arrays.observations[1:], arrays.next_observations[:-1]
    return np.asarray(np.all(np.abs(there - following) <= CONTINUITY_TOLERANCE * (1 + np.abs(following)), axis=1))


def _flagged(arrays: FlatArrays) -> np.ndarray:
    return arrays.terminals if arrays.timeouts is None else arrays.terminals | arrays.timeouts


def _without_mere_marks(arrays: FlatArrays, joins: np.ndarray | None) -> FlatArrays:
    """Without the time-outs after which the recording goes on."""
    if arrays.timeouts is None:
        return arrays
    rows = np.flatnonzero(arrays.timeouts)
    goes = is_continued(arrays, rows, through_timeouts=True) if joins is None else np.append(joins, False)[rows]
    timeouts = arrays.timeouts.copy()
    timeouts[rows[goes]] = False
    return arrays._replace(timeouts=timeouts)


def _with_rewards_of_the_next(arrays: FlatArrays, repeated: np.ndarray) -> FlatArrays:
    """With the reward of the following row, or of their own where the next state is that of the row again."""
    rewards = np.append(arrays.rewards[1:], arrays.rewards[-1:])
    rewards[repeated] = arrays.rewards[repeated]
    return arrays._replace(rewards=rewards)


def _cut_by_clock(
    start: int, end: int, known: bool, followed: bool, step_limit: int
) -> list[tuple[int, int, bool, bool]]:
    """The stretch in parts of `step_limit` rows, the last one shorter; the row after every other one is known."""
    lasts = np.arange(start + step_limit - 1, end, step_limit)
    parts = [(int(last) + 1 - step_limit, int(last), True, True) for last in lasts]
    return [*parts, (int(start + len(lasts) * step_limit), end, known, followed)]


def _behind_an_end(arrays: FlatArrays, joins: np.ndarray | None) -> np.ndarray:
    """(N,): terminal rows directly behind a terminal row, with no reset between them."""
    behind = np.zeros(len(arrays.rewards), bool)
    behind[1:] = arrays.terminals[1:] & arrays.terminals[:-1]
    if arrays.timeouts is not None:
        behind[1:] &= ~arrays.timeouts[:-1]
    if joins is not None:
        behind[1:] &= joins
    return behind


def _ends(
    arrays: FlatArrays, behind: np.ndarray, joins: np.ndarray | None, owner: str, layout: Layout
) -> tuple[np.ndarray, np.ndarray]:
    """The last rows of all episodes, and those among them that only next_observations show."""
    flagged = _flagged(arrays)
    ends = flagged.copy()
    ends[-1] = True
    cuts = np.empty(0, int)
    if joins is not None:
        cuts = np.flatnonzero(~joins & ~flagged[:-1])
        if len(cuts) > MOST_CUTS * len(flagged):
            raise ValueError(
                f"{owner}: next_observations differ from the next row's observations at {len(cuts):,} of "
                f"{len(flagged):,} rows, first at row {cuts[0]}; rows must be in the order of time"
            )
        ends[cuts] = True
    elif arrays.timeouts is None and layout.timeouts != "none":
        raise ValueError(
            f"{owner}: neither timeouts nor next_observations of its own: where the clock ended an episode cannot be "
            "known; record timeouts, or say `--timeouts none` if terminals flag every end"
        )
    rows = np.flatnonzero(ends & ~behind)
    step_limit = layout.step_limit
    if arrays.timeouts is None and step_limit is not None:
        lengths = rows + 1 - _starts(rows, behind)
        if lengths.max() > step_limit:
            row = int(rows[np.argmax(lengths > step_limit)])
            raise ValueError(
                f"{owner}: no timeouts, and the {lengths[rows == row][0]:,} steps up to row {row} pass the "
                f"environment's limit of {step_limit} without an end that next_observations would show; record timeouts"
            )
    return rows, cuts


def _episode(arrays: FlatArrays, start: int, end: int, is_next_known: bool, is_followed: bool) -> Episode:
    """The episode of rows `start` .. `end`.

    Args:
      is_next_known: the observation after row `end` is the next row's or that of next_observations.
      is_followed: it is the next row's.
    """
    terminated = bool(arrays.terminals[end])
    if is_followed:
        observations = arrays.observations[start : end + 2]
    elif is_next_known or terminated:
        last = arrays.observations if arrays.next_observations is None else arrays.next_observations
        observations = np.concatenate([arrays.observations[start : end + 1], last[end : end + 1]])
    else:
        observations = arrays.observations[start : end + 1]
    steps = slice(start, start + len(observations) - 1)
    return Episode(observations, arrays.actions[steps], arrays.rewards[steps], terminated)
