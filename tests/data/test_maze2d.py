"""Maze2d, recorded and evaluated."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from dwm_jax.data.maze2d import MAZES, Route, make_env, record_episodes, reward

UMAZE = MAZES["umaze"]


@pytest.fixture(scope="module")
def episodes():
    return record_episodes("umaze", 600, seed=0)


@pytest.fixture
def env():
    env = make_env("umaze")
    yield env
    env.close()


# ------------------------------------------------------------------------------------------- recording


def test_the_same_seed_records_the_same_episodes(episodes):
    for one, other in zip(episodes, record_episodes("umaze", 600, seed=0), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_another_seed_records_others(episodes):
    (other,) = record_episodes("umaze", 300, seed=1)
    assert np.abs(other.observations - episodes[0].observations).max() > 0.1
    assert np.abs(episodes[1].observations - episodes[0].observations).max() > 0.1


def test_steps_are_rounded_up_to_whole_episodes_that_end_by_the_clock():
    done = []
    episodes = record_episodes("umaze", 301, 0, done.append)
    assert done == [300, 600]
    for episode in episodes:
        assert episode.observations.shape == (301, 4)
        assert episode.actions.shape == (300, 2)
        assert episode.rewards.shape == (300,)
        assert episode.terminated is False


def test_the_reward_is_one_exactly_where_the_step_ends_within_half_a_cell_of_the_goal(episodes):
    # Cell (1, 1) of a 5 x 5 maze centred on the origin, and 0.2 on in columns (x) and rows (-y).
    goal = np.array([-0.8, 0.8])
    for episode in episodes:
        distance = np.hypot(*(episode.observations[1:, :2] - goal).T)
        np.testing.assert_array_equal(episode.rewards, (distance <= 0.5).astype(np.float32))
    assert set(np.concatenate([episode.rewards for episode in episodes])) == {0.0, 1.0}


def test_episodes_are_one_recording_without_a_reset(episodes):
    for before, after in pairwise(episodes):
        np.testing.assert_array_equal(after.observations[0], before.observations[-1])


def test_positions_stay_in_free_cells_and_reach_most_of_them(episodes):
    positions = np.concatenate([episode.observations[:, :2] for episode in episodes])
    visited = {UMAZE.cell(xy) for xy in positions}
    assert visited <= set(UMAZE.free_cells)
    assert len(visited) >= 5  # of 7: the controller does move from goal to goal


def test_actions_are_the_noisy_controllers_within_their_bounds(episodes):
    actions = np.concatenate([episode.actions for episode in episodes])
    assert np.abs(actions).max() == 1.0
    # A noise of 0.5 leaves many commands inside the bounds, and successive ones apart.
    assert (np.abs(actions) < 1).mean() > 0.3
    assert np.abs(np.diff(actions, axis=0)).mean() > 0.1


def test_the_reward_by_hand():
    observations = np.array([[0.3, 0.4, 9.0, 9.0], [0.3, 0.41, 0.0, 0.0]])  # distances 0.5 and 0.508
    np.testing.assert_array_equal(reward(observations, np.zeros(2)), [1.0, 0.0])


# -------------------------------------------------------------------------------------------- the maze


@pytest.mark.parametrize("name", MAZES)
def test_cells_and_positions_are_those_of_the_simulator(name):
    maze, env = MAZES[name], make_env(name)
    simulated = env.unwrapped.maze
    for cell in maze.free_cells:
        np.testing.assert_allclose(maze.xy(cell), simulated.cell_rowcol_to_xy(np.array(cell)))
        assert maze.cell(maze.xy(cell) + 0.49) == maze.cell(maze.xy(cell) - 0.49) == cell
    assert maze.goal_cell in maze.free_cells
    assert env.spec.max_episode_steps == maze.episode_steps
    env.close()


def steps_on(route, position):
    """Teleports to every waypoint in turn; returns the waypoints up to the point of the goal."""
    waypoints = [route.waypoint(position)]
    while len(route._waypoints) > 1:
        waypoints.append(route.waypoint(waypoints[-1]))
    return waypoints


@pytest.mark.parametrize("seed", range(20))
def test_a_route_leads_through_neighbouring_free_cells_to_the_point_of_a_new_goal(seed):
    maze = MAZES["medium"]
    route = Route(maze, np.random.default_rng(seed))
    position, previous = maze.xy((1, 1)), None
    for _ in range(3):
        waypoints = steps_on(route, position)
        goal = maze.cell(waypoints[-1])
        np.testing.assert_allclose(waypoints[-1], maze.point(goal))
        path = [maze.cell(position), *map(maze.cell, waypoints)]
        assert set(path) <= set(maze.free_cells)
        assert goal != previous
        assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in pairwise(path) if len(path) > 2)
        position, previous = waypoints[-1], goal


def test_waypoints_are_jittered_as_d4rls():
    # Towards lower rows (higher y) and lower columns (lower x) by U(0, 0.2) each.
    maze = MAZES["large"]
    route = Route(maze, np.random.default_rng(0))
    offsets, position = [], maze.xy((1, 1))
    for _ in range(60):
        waypoints = steps_on(route, position)
        offsets += [w - maze.point(maze.cell(w)) for w in waypoints[:-1]]
        position = waypoints[-1]
    columns, rows = np.transpose(offsets) * [[-1], [1]]
    assert stats.kstest(columns, stats.uniform(0, 0.2).cdf).pvalue > 1e-6
    assert stats.kstest(rows, stats.uniform(0, 0.2).cdf).pvalue > 1e-6


def test_a_goal_is_left_within_a_tenth_and_no_earlier():
    maze = MAZES["umaze"]
    route = Route(maze, np.random.default_rng(0))
    goal = steps_on(route, maze.xy((1, 1)))[-1]
    np.testing.assert_array_equal(route.waypoint(goal + np.array([0.11, 0])), goal)
    assert np.abs(route.waypoint(goal + np.array([0.09, 0])) - goal).max() > 0.5


def test_a_goal_out_of_reach_is_given_up_when_the_clock_has_run_out():
    maze = MAZES["umaze"]
    route = Route(maze, np.random.default_rng(0))
    waypoints = [route.waypoint(maze.xy((1, 1))) for _ in range(maze.episode_steps + 1)]
    assert (np.array(waypoints[:-1]) == waypoints[0]).all()
    assert (waypoints[-1] != waypoints[0]).any()


# ------------------------------------------------------------------------------------------ evaluation


def test_the_goal_is_fixed_over_resets(env):
    for seed in (0, 1, None):
        env.reset(seed=seed)
        np.testing.assert_array_equal(env.unwrapped.goal, UMAZE.point(UMAZE.goal_cell))


def test_the_goal_stays_when_it_is_reached(env):
    env.reset(seed=0)
    env.unwrapped.point_env.set_state(UMAZE.point(UMAZE.goal_cell), np.zeros(2))
    for _ in range(3):
        _, value, terminated, _, _ = env.step(np.zeros(2))
        assert (value, terminated) == (1.0, False)
    np.testing.assert_array_equal(env.unwrapped.goal, UMAZE.point(UMAZE.goal_cell))


def test_episodes_start_in_every_free_cell_the_goals_included(env):
    starts = [env.reset(seed=seed)[0][:2] for seed in range(80)]
    assert {UMAZE.cell(xy) for xy in starts} == set(UMAZE.free_cells)
    assert len({tuple(xy) for xy in starts}) == 80  # jittered: no two are the same


def test_a_seed_fixes_the_start_and_resets_without_one_differ(env):
    first = env.reset(seed=5)[0]
    unseeded = [env.reset()[0] for _ in range(3)]
    np.testing.assert_array_equal(env.reset(seed=5)[0], first)
    assert len({tuple(observation) for observation in [first, *unseeded]}) == 4


def test_episodes_are_truncated_by_the_clock_and_never_terminate(env):
    observation, _ = env.reset(seed=0)
    ends = []
    for _ in range(UMAZE.episode_steps):
        observation, value, terminated, truncated, _ = env.step(np.array([1.0, -1.0]))
        assert env.observation_space.contains(observation)
        assert value in (0.0, 1.0)
        ends.append((terminated, truncated))
    assert ends == [(False, False)] * 299 + [(False, True)]
