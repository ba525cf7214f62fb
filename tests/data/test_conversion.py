"""Flat arrays become episodes: in every layout each reward is kept, or is accounted for."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwm_jax.data.conversion import convert
from dwm_jax.data.flat_arrays import FlatArrays
from dwm_jax.types import Episode
from tests.data.d4rl_files import assert_same


class Piece(NamedTuple):
    """A stretch of a recording up to its first flag."""

    steps: int
    end: str  # "terminal", "timeout", or "none" (the recording ends, or is cut without a flag)
    stays: int  # further terminal rows while the state goes on
    resets: bool  # the next piece starts elsewhere


def not_runs(pieces):
    """Behind a piece that ends in a terminal, the next one is more than another terminal: that would be a run."""
    pieces = list(pieces)
    for index, (before, piece) in enumerate(pairwise(pieces), start=1):
        if before.end == piece.end == "terminal":
            pieces[index] = piece._replace(steps=piece.steps + 1)
    return pieces


PIECES = st.lists(
    st.builds(Piece, st.integers(1, 6), st.sampled_from(["terminal", "timeout"]), st.integers(0, 3), st.booleans()).map(
        lambda p: p if p.end == "terminal" else p._replace(stays=0, resets=True)
    ),
    min_size=1,
    max_size=6,
).map(not_runs)


def record(pieces, is_open, seed):
    """The rows of a recorder that sees every next observation, and which piece and part of it each row is.

    The state moves by at most 0.1 a step and by 5 at a reset.
    """
    rng = np.random.default_rng(seed)
    if is_open:
        pieces = [*pieces[:-1], pieces[-1]._replace(end="none", stays=0)]
    rows, state = [], np.zeros(2)
    # Two rows that no flag separates show how far a step goes: without them nothing would be known to go on.
    for piece in [Piece(3, "timeout", 0, True), *pieces]:
        for step in range(piece.steps + piece.stays):
            following = state + rng.choice([-0.1, 0.1], 2)
            rows.append((state, following, piece, step))
            state = following
        if piece.resets:
            state = state + 5
    count = len(rows)
    arrays = FlatArrays(
        observations=np.array([row[0] for row in rows], np.float32),
        actions=rng.uniform(-1, 1, (count, 1)).astype(np.float32),
        rewards=rng.integers(-3, 9, count).astype(np.float32),
        terminals=np.array([p.end == "terminal" and i >= p.steps - 1 for _, _, p, i in rows]),
        timeouts=np.array([p.end == "timeout" and i == p.steps - 1 for _, _, p, i in rows]),
        next_observations=np.array([row[1] for row in rows], np.float32),
    )
    return arrays, rows


def expected_episodes(arrays, rows, with_next):
    """Piece by piece, by the rules in the module's docstring; and the rows that are left out."""
    episodes, behind, truncated = [], [], []
    first = 0
    while first < len(rows):
        piece = rows[first][2]
        end, after = first + piece.steps - 1, first + piece.steps + piece.stays
        behind += range(end + 1, after)
        terminated = piece.end == "terminal"
        if with_next or terminated:
            is_followed = end + 1 < after or (after < len(rows) and not piece.resets)
            last = arrays.next_observations[end] if with_next or is_followed else arrays.observations[end]
            observations = np.concatenate([arrays.observations[first : end + 1], last[None]])
            steps = slice(first, end + 1)
        else:
            truncated.append(end)
            observations, steps = arrays.observations[first : end + 1], slice(first, end)
        if len(arrays.actions[steps]):
            episodes.append(Episode(observations, arrays.actions[steps], arrays.rewards[steps], terminated))
        first = after
    return episodes, behind, truncated


@settings(deadline=None, max_examples=150)
@given(pieces=PIECES, is_open=st.booleans(), with_next=st.booleans(), seed=st.integers(0, 99))
def test_every_reward_is_kept_or_accounted_for_in_every_layout(pieces, is_open, with_next, seed):
    full, rows = record(pieces, is_open, seed)
    arrays = full if with_next else full._replace(next_observations=None)
    converted = convert(arrays, "a recording")
    expected, behind, truncated = expected_episodes(full, rows, with_next)
    assert_same(converted.episodes, expected)
    findings = converted.findings
    lost = full.rewards[truncated].sum()
    assert findings.reward_recorded == full.rewards.sum()
    assert findings.reward_behind == full.rewards[behind].sum()
    assert findings.reward_kept == sum(e.rewards.sum() for e in converted.episodes)
    assert findings.reward_kept == findings.reward_recorded - findings.reward_behind - lost
    assert (findings.dropped_behind, findings.dropped_truncated) == (len(behind), len(truncated))
    assert len(full.rewards) == sum(len(e.rewards) for e in converted.episodes) + len(behind) + len(truncated)


@settings(deadline=None, max_examples=60)
@given(pieces=PIECES, is_open=st.booleans(), seed=st.integers(0, 99))
def test_next_observations_show_every_reset_that_timeouts_would_flag(pieces, is_open, seed):
    # Longer pieces: a recording that seems to be cut at every other row is refused as one in another order.
    full, rows = record([piece._replace(steps=piece.steps + 2) for piece in pieces], is_open, seed)
    converted = convert(full._replace(timeouts=None), "a recording")
    assert_same(converted.episodes, expected_episodes(full, rows, with_next=True)[0])
    assert converted.findings.timeouts == "absent"


def line(num_rows, terminals=(), timeouts=(), rewards=None, jumps=()):
    """Rows whose state moves by 1, and by 50 before each row in `jumps`."""
    flags = np.zeros((2, num_rows), bool)
    flags[0, list(terminals)] = flags[1, list(timeouts)] = True
    moves = np.ones(num_rows)
    moves[list(jumps)] = 50
    return FlatArrays(
        np.cumsum(moves)[:, None].astype(np.float32),
        np.zeros((num_rows, 1), np.float32),
        np.array(np.arange(num_rows) if rewards is None else rewards, np.float32),
        flags[0],
        flags[1],
        None,
    )


def test_a_run_of_terminals_is_one_end_by_hand():
    # States 1 .. 10, rewards 0 .. 9; the task ends at row 3, rows 4 and 5 are behind it, 6 .. 9 the time-out's.
    converted = convert(line(10, terminals=(3, 4, 5), timeouts=(9,)), "")
    first, second = converted.episodes
    np.testing.assert_array_equal(first.observations[:, 0], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(first.rewards, [0, 1, 2, 3])
    np.testing.assert_array_equal(second.observations[:, 0], [7, 8, 9, 10])
    np.testing.assert_array_equal(second.rewards, [6, 7, 8])
    assert (first.terminated, second.terminated) == (True, False)
    findings = converted.findings
    assert (findings.reward_recorded, findings.reward_kept, findings.reward_behind) == (45, 27, 9)  # 45 = 27 + 9 + 9
    assert (findings.terminals_followed, findings.terminals_repeated) == (1, 0)


def test_a_terminal_before_a_reset_repeats_its_own_state():
    # Row 4 follows row 3 by a jump of 50, which no two rows without a flag between them make.
    first, second = convert(line(8, terminals=(3,), timeouts=(7,), jumps=(4,)), "").episodes
    np.testing.assert_array_equal(first.observations[:, 0], [1, 2, 3, 4, 4])
    assert second.observations[0, 0] == 54


@pytest.mark.parametrize("terminals", [(3,), (3, 7)], ids=["then a time-out", "at the very end"])
def test_a_terminal_that_is_a_time_out_too_or_the_last_row_repeats_its_own_state(terminals):
    arrays = line(8, terminals=terminals, timeouts=(3, 7))
    first, *rest = convert(arrays, "").episodes
    np.testing.assert_array_equal(first.observations[:, 0], [1, 2, 3, 4, 4])
    assert first.terminated
    if terminals[-1] == 7:
        np.testing.assert_array_equal(rest[0].observations[:, 0], [5, 6, 7, 8, 8])


def test_where_no_step_is_known_nothing_is_believed_to_go_on():
    (only,) = convert(line(1, terminals=(0,)), "").episodes
    np.testing.assert_array_equal(only.observations[:, 0], [1, 1])


def test_a_task_that_ends_at_once_again_and_again_is_one_step_an_episode_where_next_observations_prove_it():
    arrays = line(4, terminals=range(4))
    arrays = arrays._replace(next_observations=arrays.observations + 100)
    converted = convert(arrays, "")
    assert [len(e.actions) for e in converted.episodes] == [1, 1, 1, 1]
    assert converted.findings.reward_kept == 6


def test_the_shape_of_antmaze_by_hand():
    # Two tries of six rows without a reset at the goal: reached in rows 2 and 3, and in row 8; a reset after row 5.
    rewards = np.zeros(12)
    rewards[[2, 3, 8]] = 1
    converted = convert(line(12, (2, 3, 8), (5, 11), rewards, jumps=(6,)), "")
    assert [(len(e.actions), float(e.rewards.sum()), e.terminated) for e in converted.episodes] == [
        (3, 1, True),
        (1, 0, False),  # rows 4 and 5
        (3, 1, True),
        (2, 0, False),
    ]
    assert (converted.findings.reward_kept, converted.findings.reward_behind) == (2, 1)


def test_only_time_outs_of_one_row_leave_nothing():
    with pytest.raises(ValueError, match="mine: no transition is left of its 3 row"):
        convert(line(3, timeouts=range(3)), "mine")
