"""Frames of a dream: as many as steps, the last one standing, each showing the states so far."""

import gymnasium as gym
import numpy as np
import pytest

from dwm_jax.data.maze2d import MAZES
from dwm_jax.results import dream_frames
from dwm_jax.results.dream_frames import Dream
from dwm_jax.types import Episode

MAZE = MAZES["umaze"]
ORANGE, BLACK = (255, 127, 14), (0, 0, 0)


def episode(positions, terminated=False):
    positions = np.asarray(positions, np.float32)
    states = np.concatenate([positions, np.zeros_like(positions)], axis=1)
    steps = len(positions) - 1
    return Episode(states, np.zeros((steps, 2), np.float32), np.ones(steps, np.float32), terminated)


UPPER, LOWER = MAZE.xy((1, 3)), MAZE.xy((3, 3))  # both in the right-hand corridor
RECORDED = episode(np.linspace(UPPER, LOWER, 4))
IMAGINED = episode(np.linspace(UPPER, UPPER, 3), terminated=True)
DREAM = Dream(RECORDED, IMAGINED, chunk=2, title="a maze", told="Told nothing.")


def centre(frame, half, color=ORANGE):
    """(column, row) of the middle of what has this colour in one half of a frame."""
    width = frame.shape[1] // 2
    part = frame[:, half * width : (half + 1) * width].astype(int)
    rows, columns = np.nonzero((np.abs(part - color) < 40).all(axis=-1))
    return np.array([columns.mean(), rows.mean()])


def test_balls_move_in_their_own_halves_and_the_last_frame_stands():
    frames = list(dream_frames.draw_frames(DREAM, dream_frames.make_maze_scene(MAZE)))
    # Steps 0, 1, 2, 3 of the longer episode; the last is shown 30 times.
    assert len(frames) == 3 + dream_frames.STANDING_FRAMES
    assert {frame.shape for frame in frames} == {frames[0].shape}
    assert frames[0].dtype == np.uint8
    recorded = [centre(frame, 0)[1] for frame in frames[:4]]
    imagined = [centre(frame, 1)[1] for frame in frames[:4]]
    assert np.diff(recorded).min() > 10  # downwards, a third of two cells a step
    np.testing.assert_allclose(imagined, imagined[0], atol=1)  # it ended before, and never moved
    np.testing.assert_allclose(centre(frames[0], 0), centre(frames[0], 1), atol=3)
    np.testing.assert_array_equal(frames[-1], frames[3])


def test_a_long_episode_is_shown_in_strides():
    long = episode(np.linspace(UPPER, LOWER, 402))
    shown = []
    frames = dream_frames.draw_frames(DREAM._replace(recorded=long), lambda figure, dream: shown.append)
    # 401 steps in strides of 3 = ceil(401 / 150): 0, 3, .. 399, and the last.
    assert len(list(frames)) == 134 + dream_frames.STANDING_FRAMES
    assert shown == [*range(0, 401, 3), 401]


def test_headings_say_the_return_so_far_and_the_end():
    assert dream_frames._heading("imagined", IMAGINED, 1) == "imagined: return 1.0"
    assert dream_frames._heading("imagined", IMAGINED, 2) == "imagined: return 2.0, ended"
    assert dream_frames._heading("recorded", RECORDED, 3) == "recorded: return 3.0"


def test_lines_grow_with_time():
    frames = list(dream_frames.draw_frames(DREAM, dream_frames.draw_lines))
    assert len(frames) == 3 + dream_frames.STANDING_FRAMES
    drawn = [np.count_nonzero((np.abs(frame.astype(int) - ORANGE) < 40).all(axis=-1)) for frame in frames[:4]]
    assert drawn[0] < drawn[1] < drawn[2]  # imagined: two steps
    # Nothing more is imagined; the recorded line, drawn below it, still grows.
    assert drawn[3] == drawn[2]


@pytest.fixture
def hopper(monkeypatch):
    """Hopper, whose picture is the state that it was set to: drawing itself needs graphics."""
    env = gym.make("Hopper-v4", render_mode="rgb_array")
    simulator = env.unwrapped
    monkeypatch.setattr(
        type(env), "render", lambda self: np.concatenate([simulator.data.qpos, simulator.data.qvel]), raising=True
    )
    yield env
    env.close()


def test_a_robot_is_set_to_its_states_and_goes_as_far_as_its_velocity_says(hopper, monkeypatch):
    drawn = []
    monkeypatch.setattr(dream_frames, "make_simulator_scene", lambda draw: drawn.append(draw))
    dream_frames.find_simulator_scene(hopper)
    (draw,) = drawn
    # Hopper's 11 entries: 5 positions without the first, which is x, and 6 velocities, the first of which is x's.
    states = np.arange(33.0).reshape(3, 11)
    x = hopper.unwrapped.dt * (states[0, 5] + states[1, 5])
    np.testing.assert_allclose(draw(states), [x, *states[2]])
    np.testing.assert_allclose(draw(states[:1]), [0, *states[0]])


def test_observations_that_tell_no_state_are_not_drawn_as_one():
    class Shifted(gym.ObservationWrapper):
        def observation(self, observation):
            return observation + 1

    class Cut(gym.ObservationWrapper):
        def observation(self, observation):
            return observation[:6]

    for wrapper in (Shifted, Cut):
        env = wrapper(gym.make("Hopper-v4"))
        assert dream_frames.find_simulator_scene(env) is None
        env.close()
    env = gym.make("Pendulum-v1")
    assert dream_frames.find_simulator_scene(env) is None
    env.close()
