"""Episodes laid out flat, and segments of them, against a slow reference that walks the episodes one by one."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwm_jax.data import dataset as data
from dwm_jax.data.episode_rows import EpisodeRows
from dwm_jax.runtime import parallel
from dwm_jax.types import Episode

GAMMA = 0.9
NUM_ROWS = 30  # of every random data set, so that one compilation serves all examples
T = 5


def episode(length, terminated=False, seed=0):
    """Random numbers, all different, so that a row can be recognised."""
    rng = np.random.default_rng(seed)
    return Episode(
        rng.normal(size=(length + 1, 2)).astype(np.float32),
        rng.normal(size=(length, 1)).astype(np.float32),
        rng.normal(size=length).astype(np.float32),
        terminated,
    )


@st.composite
def recordings(draw):
    """Episodes of random lengths and random ends, NUM_ROWS rows in all."""
    episodes, rows = [], NUM_ROWS
    while rows:
        # The rest has to make a whole episode (3 rows) or nothing.
        lengths = [n for n in range(1, rows) if rows - n - 1 == 0 or rows - n - 1 >= 2]
        length = draw(st.sampled_from(lengths))
        episodes.append(episode(length, draw(st.booleans()), seed=len(episodes)))
        rows -= length + 1
    return episodes


def slow_segments(episodes, scale):
    """Every segment, row by row, as the definition reads."""
    segments = []
    for e in episodes:
        length = len(e.actions)
        for t in range(length):
            rows = []
            for h in range(t, t + T):
                recorded = h < length
                rows.append(
                    (
                        e.observations[min(h, length)],
                        e.rewards[h] if recorded else 0.0,
                        e.actions[h] if recorded else np.zeros(1),
                        float(recorded or e.terminated),
                    )
                )
            g = sum(GAMMA ** (i - t) * float(e.rewards[i]) for i in range(t, length)) / scale
            columns = [np.array(column) for column in zip(*rows, strict=True)]
            segments.append((columns[0], columns[1], columns[2], g, columns[3]))
    return segments


@jax.jit
@chex.assert_max_traces(n=1)
def all_segments(flat):
    return jax.vmap(partial(data.segment_at, flat, sequence_length=T))(jnp.arange(NUM_ROWS))


@jax.jit
@chex.assert_max_traces(n=1)
def all_steps(flat):
    return jax.vmap(lambda row: data.recorded_steps(flat, row, 1, GAMMA))(jnp.arange(NUM_ROWS))


@settings(deadline=None, max_examples=30)
@given(recordings())
def test_segments_are_those_of_the_slow_reference(episodes):
    flat, scale = data.flatten(episodes, GAMMA, None)
    starts = data.segment_rows(flat, T, "absorb")
    segments = jax.tree.map(np.asarray, all_segments(flat))
    expected = slow_segments(episodes, scale)
    assert len(starts) == len(expected)
    for row, (observations, rewards, actions, g, mask) in zip(starts, expected, strict=True):
        # The final row of a truncated episode has a known state and an unknown reward: it is masked.
        np.testing.assert_array_equal(segments.observations[row], observations)
        np.testing.assert_array_equal(segments.rewards[row], rewards)
        np.testing.assert_array_equal(segments.actions[row], actions)
        np.testing.assert_array_equal(segments.mask[row], mask)
        assert segments.return_to_go[row] == pytest.approx(g, rel=1e-4, abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(recordings())
def test_dropping_keeps_the_segments_whose_rows_were_all_recorded(episodes):
    flat, _ = data.flatten(episodes, GAMMA, None)
    whole = []
    first_row = 0
    for e in episodes:
        whole += [first_row + t for t in range(len(e.actions) - T + 1)]
        first_row += len(e.actions) + 1
    if not whole:
        with pytest.raises(ValueError, match=f"long enough for {T} rows"):
            data.segment_rows(flat, T, "drop")
        return
    np.testing.assert_array_equal(data.segment_rows(flat, T, "drop"), whole)
    np.testing.assert_array_equal(all_segments(flat).mask[np.array(whole)], 1.0)


@settings(deadline=None, max_examples=30)
@given(recordings())
def test_the_discount_is_zero_exactly_at_last_steps_that_terminated(episodes):
    flat, _ = data.flatten(episodes, GAMMA, 1.0)
    rows = data.transition_rows(flat)
    steps = jax.tree.map(lambda leaf: np.asarray(leaf)[rows], all_steps(flat))
    discounts = [
        0.0 if e.terminated and t == len(e.actions) - 1 else GAMMA for e in episodes for t in range(len(e.actions))
    ]
    np.testing.assert_array_equal(steps.discounts[:, 0], np.float32(discounts))
    np.testing.assert_array_equal(steps.next_observations[:, 0], np.concatenate([e.observations[1:] for e in episodes]))
    np.testing.assert_array_equal(steps.rewards[:, 0], np.concatenate([e.rewards for e in episodes]))


# Two episodes of two steps: rows 0 1 2 and 3 4 5.
FIRST = Episode(np.array([[0.0], [1.0], [2.0]]), np.array([[0.1], [0.2]]), np.array([1.0, 2.0]), True)
SECOND = Episode(np.array([[5.0], [6.0], [7.0]]), np.array([[0.5], [0.6]]), np.array([-4.0, 0.0]), False)


def test_layout_by_hand():
    flat, scale = data.flatten([FIRST, SECOND], 0.5, None)
    np.testing.assert_array_equal(flat.observations[:, 0], [0, 1, 2, 5, 6, 7])
    np.testing.assert_allclose(flat.actions[:, 0], [0.1, 0.2, 0, 0.5, 0.6, 0])
    np.testing.assert_array_equal(flat.rewards, [1, 2, 0, -4, 0, 0])
    np.testing.assert_array_equal(flat.last, [2, 2, 2, 5, 5, 5])
    np.testing.assert_array_equal(flat.terminated, [True] * 3 + [False] * 3)
    # 1 + 0.5 * 2 = 2 and 2; -4 + 0 and 0. The largest |g| is 4, so labels are those over 4.
    assert scale == 4.0
    np.testing.assert_allclose(flat.returns_to_go, [0.5, 0.5, 0, -1, 0, 0])
    np.testing.assert_array_equal(data.transition_rows(flat), [0, 1, 3, 4])
    np.testing.assert_array_equal(data.episode_of_row(flat), [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(data.step_of_row(flat), [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(data.episode_returns(flat), [3, -4])
    np.testing.assert_array_equal(data.episode_returns(flat, 0.5), [2, -4])  # 1 + 0.5 * 2
    assert data.num_episodes(flat) == 2


def test_episodes_laid_out_already_are_taken_as_they_are():
    rows = EpisodeRows.of([FIRST, SECOND])
    flat, _ = data.flatten(rows, 0.5, None)
    assert flat.observations is rows.observations
    assert flat.actions is rows.actions
    assert flat.rewards is rows.rewards


def device_address(array):
    return array.addressable_data(0).unsafe_buffer_pointer()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="another device has memory of its own")
def test_a_cpu_device_shares_the_memory_of_the_data_set():
    flat, _ = data.flatten([episode(50, seed=i) for i in range(4)], GAMMA, None)
    on_device = parallel.replicate(flat)
    for name, array in flat._asdict().items():
        assert device_address(getattr(on_device, name)) == array.ctypes.data, name


def test_a_data_set_cannot_be_written_to():
    flat, _ = data.flatten([FIRST, SECOND], GAMMA, None)
    for array in flat:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize("engine", parallel.ENGINES.values(), ids=parallel.ENGINES)
def test_updates_that_take_over_their_state_leave_the_memory_they_share_alone(engine):
    flat, _ = data.flatten([FIRST, SECOND], GAMMA, None)
    before = flat.rewards.copy()
    updates = parallel.repeat_update(lambda state, _, step: (state + 1, {"step": step}))
    dispatch = parallel.make_dispatch(updates, 3, engine)
    state, _ = dispatch(parallel.replicate(flat.rewards, engine), None, 0)
    np.testing.assert_array_equal(parallel.unreplicate(state), before + 3)
    np.testing.assert_array_equal(flat.rewards, before)


def test_a_given_scale_divides_the_returns():
    flat, scale = data.flatten([FIRST], 0.5, 400.0)
    assert scale == 400.0
    np.testing.assert_allclose(flat.returns_to_go, [2 / 400, 2 / 400, 0])


def test_returns_of_zero_keep_a_scale_of_one():
    flat, scale = data.flatten([SECOND._replace(rewards=np.zeros(2))], 0.9, None)
    assert scale == 1.0
    np.testing.assert_array_equal(flat.returns_to_go, 0.0)


def test_segments_can_be_taken_from_some_episodes_only():
    flat, _ = data.flatten([FIRST, SECOND], GAMMA, None)
    np.testing.assert_array_equal(data.segment_rows(flat, 2, "absorb", np.array([1])), [3, 4])
    np.testing.assert_array_equal(data.segment_rows(flat, 2, "drop", np.array([1])), [3])


def test_start_rows_are_the_first_actions_of_every_episode():
    flat, _ = data.flatten([FIRST, SECOND], GAMMA, None)
    np.testing.assert_array_equal(data.start_rows(flat, 1), [0, 3])
    np.testing.assert_array_equal(data.start_rows(flat, 9), [0, 1, 3, 4])


def test_of_two_rows_dropping_keeps_the_transitions_that_terminated():
    flat, _ = data.flatten([FIRST, SECOND], GAMMA, None)
    # Row 1 led to the end of the task; row 4 to a state whose reward nobody recorded.
    np.testing.assert_array_equal(data.segment_rows(flat, 2, "drop"), [0, 1, 3])


def test_a_segment_is_terminated_from_the_step_that_ended_the_task_on():
    flat, _ = data.flatten([FIRST, SECOND], GAMMA, None)
    ended = [np.asarray(data.segment_at(flat, row, 4).terminated).tolist() for row in (0, 1, 3)]
    assert ended == [[False, True, True, True], [True] * 4, [False] * 4]


def test_another_padding_is_refused():
    flat, _ = data.flatten([FIRST], GAMMA, None)
    with pytest.raises(ValueError, match='"absorb" or "drop", got \'wrap\''):
        data.segment_rows(flat, 2, "wrap")


@pytest.mark.parametrize(("fraction", "held_out"), [(0.0, 0), (0.01, 1), (0.3, 3), (0.99, 9)])
def test_episodes_are_divided_without_overlap_the_same_for_a_seed(fraction, held_out):
    flat, _ = data.flatten([episode(2, seed=i) for i in range(10)], GAMMA, None)
    training, rest = data.split_episodes(flat, fraction, seed=0)
    assert len(rest) == held_out
    np.testing.assert_array_equal(np.sort(np.concatenate([training, rest])), np.arange(10))
    np.testing.assert_array_equal(data.split_episodes(flat, fraction, seed=0)[1], rest)


def test_another_seed_divides_otherwise():
    flat, _ = data.flatten([episode(2, seed=i) for i in range(10)], GAMMA, None)
    assert len({tuple(data.split_episodes(flat, 0.5, seed)[1]) for seed in range(4)}) > 1


def test_the_fingerprint_is_that_of_the_numbers():
    def fingerprint(*episodes):
        return data.fingerprint(data.flatten(episodes, GAMMA, 1.0)[0])

    assert fingerprint(FIRST, SECOND) == fingerprint(FIRST._replace(rewards=np.array([1, 2])), SECOND)
    others = [
        (SECOND, FIRST),
        (FIRST, SECOND._replace(terminated=True)),
        (FIRST._replace(rewards=np.array([1.0, 2.001])), SECOND),
    ]
    assert len({fingerprint(*episodes) for episodes in [(FIRST, SECOND), *others]}) == 4


def with_nan(array, place):
    array = np.array(array, np.float32)
    array[place] = np.nan
    return array


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"observations": with_nan(FIRST.observations, (1, 0))}, r"episode 1: observations\[1, 0\] is nan"),
        ({"rewards": np.array([1.0, np.inf])}, r"episode 1: rewards\[1\] is inf; data must be finite"),
        ({"rewards": np.array([1.0, -2e15])}, r"rewards\[1\] is -2e\+15; data must be at most 1e\+15 in size"),
        ({"actions": with_nan(FIRST.actions, (0, 0))}, r"episode 1: actions\[0, 0\] is nan"),
        ({"observations": FIRST.observations[:2]}, r"episode 1: observations have shape \(2, 1\), expected 3 rows"),
        ({"observations": FIRST.observations[:, 0]}, r"episode 1: observations have shape \(3,\), .* 2 axes"),
        ({"actions": FIRST.actions[:, 0]}, r"episode 1: actions have shape \(2,\), .* 2 axes"),
        ({"rewards": np.ones(3)}, r"episode 1: rewards have shape \(3,\), expected 2 rows"),
        ({"rewards": np.ones((2, 1))}, r"episode 1: rewards have shape \(2, 1\), .* 1 axes"),
        ({"observations": np.ones((3, 4))}, r"episode 1: observations have shape \(4,\), earlier episodes \(1,\)"),
        ({"actions": np.ones((2, 4))}, r"episode 1: actions have shape \(4,\), earlier ones \(1,\)"),
        ({"rewards": None}, "episode 1 has no rewards"),
        ({"rewards": np.zeros(0)}, "episode 1 has no rewards"),
        (
            {"observations": np.ones((1, 1)), "actions": np.ones((0, 1)), "rewards": np.ones(1)},
            "episode 1 has no step",
        ),
    ],
)
def test_a_broken_episode_is_refused_by_name(broken, message):
    with pytest.raises(ValueError, match=message):
        data.flatten([SECOND, FIRST._replace(**broken)], GAMMA, None)


def test_no_episode_at_all_is_refused():
    with pytest.raises(ValueError, match="holds no episode"):
        data.flatten([], GAMMA, None)


def test_states_are_standardised_over_those_an_action_was_taken_in() -> None:
    # 1 and 3 have an action: mean 2, deviation 1. The last state, 99, has none.
    observations = np.array([[1.0], [3.0], [99.0]])
    dataset, _ = data.flatten([Episode(observations, np.zeros((2, 1)), np.zeros(2), False)], 0.9, 1.0)
    np.testing.assert_allclose(data.state_normalizer(dataset).normalize(observations)[:, 0], [-1, 1, 97])
