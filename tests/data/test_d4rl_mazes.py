"""D4RL's mazes: starts and goals are distributed as D4RL's, walls stand where D4RL's do, the ant is D4RL's.

Distributions are those of d4rl/pointmaze/maze_model.py (reset_model) and d4rl/locomotion (ant.py, maze_env.py). Each
is compared by Kolmogorov and Smirnov's test with fixed seeds: of so many comparisons of draws that do come from the
distribution, the least p-value is far above 1e-6.
"""

import numpy as np
import pytest
from scipy import stats

from dwm_jax.data import d4rl_mazes, environments

NUM_RESETS = 300
LEAST_P = 1e-6

# D4RL's maps: # a wall, R where the ant starts, G the goal.
ANT_MAPS = {
    "umaze": "##### #R..# ###.# #G..# #####",
    "medium": "######## #R.##..# #..#...# ##...### #..#...# #.#..#.# #...#.G# ########",
    "large": (
        "############ #R...#.....# #.##.#.#.#.# #......#...# #.####.###.# "
        "#..#.#.....# ##.#.#.#.### #..#...#.G.# ############"
    ),
}
POINT_GOALS = {"umaze": (1, 1), "medium": (6, 6), "large": (7, 9)}


def uniform_p(values, low, high):
    return stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue


def normal_p(values, deviation):
    return stats.kstest(values, stats.norm(0, deviation).cdf).pvalue


def starts(env):
    """Observations after reset: half from seeds of their own, half without."""
    seeds = [*range(NUM_RESETS // 2), *[None] * (NUM_RESETS // 2)]
    return np.array([env.reset(seed=seed)[0] for seed in seeds])


@pytest.fixture(scope="module")
def ant():
    env = d4rl_mazes.AntmazeV2("umaze")
    yield env
    env.close()


def test_the_ants_starts_are_d4rls(ant):
    observations = starts(ant)
    rest = np.array([0, 0, 0.75, 1, 0, 0, 0, *[0] * 8])
    for index in [*range(3), *range(7, 15)]:
        assert uniform_p(observations[:, index] - rest[index], -0.1, 0.1) > LEAST_P
    for index in range(15, 29):
        assert normal_p(observations[:, index], 0.1) > LEAST_P


def test_the_ants_attitude_is_d4rls_at_unit_length(ant):
    attitudes = starts(ant)[:, 3:7]
    np.testing.assert_allclose(np.linalg.norm(attitudes, axis=1), 1)
    drawn = np.array([1, 0, 0, 0]) + np.random.default_rng(0).uniform(-0.1, 0.1, (5_000, 4))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    for index in range(4):
        assert stats.ks_2samp(attitudes[:, index], drawn[:, index]).pvalue > LEAST_P


@pytest.mark.parametrize("name", ANT_MAPS)
def test_the_ants_goals_are_d4rls(name):
    env = d4rl_mazes.AntmazeV2(name)
    rows = ANT_MAPS[name].split()
    ((row, column),) = [(r, c) for r, line in enumerate(rows) for c, cell in enumerate(line) if cell == "G"]
    goals = []
    for seed in range(NUM_RESETS):
        env.reset(seed=seed)
        goals.append(env._goal.copy())
    # U(0, 1) + U(0, 0.5) is trapezoidal: rising to 0.5, level to 1, falling to 1.5.
    sum_of_both = stats.trapezoid(1 / 3, 2 / 3, 0, 1.5).cdf
    offsets = np.array(goals) - 4.0 * np.array([column - 1, row - 1])
    assert all(stats.kstest(offsets[:, axis], sum_of_both).pvalue > LEAST_P for axis in range(2))
    env.close()


@pytest.mark.parametrize("name", ANT_MAPS)
def test_the_ants_walls_stand_where_d4rls_do(name):
    env = d4rl_mazes.AntmazeV2(name)
    model = env.unwrapped.ant_env.model
    walls = {
        tuple(np.round(model.geom_pos[i][:2] - env._origin, 6))
        for i in range(model.ngeom)
        if model.geom(i).name.startswith("block")
    }
    rows = ANT_MAPS[name].split()
    assert walls == {
        (4.0 * (c - 1), 4.0 * (r - 1)) for r, line in enumerate(rows) for c, cell in enumerate(line) if cell == "#"
    }
    env.close()


def test_the_ant_is_d4rls(ant):
    model = ant.unwrapped.ant_env.model
    np.testing.assert_array_equal(model.geom_solimp[:, :3], np.tile([0.8, 0.8, 0.01], (model.ngeom, 1)))
    np.testing.assert_array_equal(model.actuator_gear[:, 0] * model.actuator_ctrlrange[:, 1], 30)
    assert ant.unwrapped.ant_env.dt == pytest.approx(0.1)


def test_reaching_the_goal_pays_one_and_terminates_anywhere_else_nothing(ant):
    ant.reset(seed=0)
    _, reward, terminated, truncated, _ = ant.step(np.zeros(8))
    assert (reward, terminated, truncated) == (0.0, False, False)
    simulator = ant.unwrapped.ant_env
    positions = simulator.data.qpos.copy()
    positions[:2] = ant._origin + ant._goal
    simulator.set_state(positions, np.zeros(14))
    _, reward, terminated, _, _ = ant.step(np.zeros(8))
    assert (reward, terminated) == (1.0, True)


def test_the_clock_ends_an_episode(ant):
    ant.reset(seed=0)
    ends = [ant.step(np.zeros(8))[2:4] for _ in range(700)]
    assert ends == [(False, False)] * 699 + [(False, True)]


@pytest.mark.parametrize("name", POINT_GOALS)
def test_the_points_starts_are_d4rls(name):
    env = d4rl_mazes.Maze2dV1(name)
    observations = starts(env)
    cells = np.rint(observations[:, :2])
    for axis in range(2):
        assert uniform_p(observations[:, axis] - cells[:, axis], -0.1, 0.1) > LEAST_P
        assert normal_p(observations[:, 2 + axis], 0.1) > LEAST_P
    free = {tuple(map(int, cell)) for cell in np.argwhere(np.array(env._maze.cells) == 0)}
    counted = np.unique(cells, axis=0, return_counts=True)
    assert {tuple(map(int, cell)) for cell in counted[0]} <= free
    expected = dict.fromkeys(free, NUM_RESETS / len(free))
    found = {tuple(map(int, cell)): count for cell, count in zip(*counted, strict=True)}
    assert stats.chisquare([found.get(cell, 0) for cell in free], list(expected.values())).pvalue > LEAST_P
    env.close()


@pytest.mark.parametrize(("name", "goal"), POINT_GOALS.items())
def test_the_points_reward_is_paid_at_the_goals_whole_numbers(name, goal):
    env = d4rl_mazes.Maze2dV1(name)
    env.reset(seed=0)
    simulator = env.unwrapped.point_env
    for offset, paid in [((0, 0.49), 1.0), ((0, -0.49), 1.0), ((0, -0.55), 0.0)]:
        # D4RL's (row, column) in the simulator: x grows with the column, y falls with the row.
        rows, columns = np.shape(env._maze.cells)
        row, column = np.add(goal, offset)
        simulator.set_state(np.array([column - columns / 2 + 0.7, rows / 2 - row - 0.7]), np.zeros(2))
        _, reward, terminated, _, _ = env.step(np.zeros(2, np.float32))
        assert (reward, terminated) == (paid, False)
    env.close()


@pytest.mark.parametrize("environment", [name for name in d4rl_mazes.ENVIRONMENTS if name.startswith("antmaze")])
def test_every_antmaze_of_d4rl_has_its_environment(environment):
    env = environments.make(environment, observation_size=29)
    first, again = env.reset(seed=7)[0], env.reset(seed=7)[0]
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - env.reset(seed=8)[0]).max() > 0.01
    env.close()
