"""Any local Minari data set as flat episodes: its formats, its spaces, and what is refused."""

import json
import socket
import tracemalloc
import warnings

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Text, Tuple
from hypothesis import given, settings
from hypothesis import strategies as st
from minari.data_collector import EpisodeBuffer
from minari.storage.datasets_root_dir import get_dataset_path

from dwm_jax.data import d4rl_mazes, environments, minari_formats, minari_reading, minari_store, tasks
from dwm_jax.data.conversion import cut_at_terminals
from dwm_jax.data.dataset import fingerprint, flatten, segment_rows, split_episodes
from dwm_jax.data.episode_rows import EpisodeRows
from dwm_jax.data.minari_store import read_episodes
from dwm_jax.data.spaces import ActionRange, flatten_observations, observation_keys
from tests.data.d4rl_files import assert_same, make_episodes

ID = "others/robot/test-v3"
VECTOR = Box(-np.inf, np.inf, (3,), np.float64)
VECTOR32 = Box(-np.inf, np.inf, (3,), np.float32)
UNIT = Box(-1, 1, (2,), np.float32)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def create(episodes, observation_space=VECTOR, action_space=UNIT, observations=lambda o: o, flags=None, **others):
    """A data set made by Minari itself, as others would."""
    buffers = []
    for index, episode in enumerate(episodes):
        last = np.arange(len(episode.actions)) == len(episode.actions) - 1
        buffers.append(
            EpisodeBuffer(
                id=index,
                observations=observations(episode.observations),
                actions=episode.actions,
                rewards=episode.rewards,
                terminations=last & episode.terminated if flags is None else flags,
                truncations=last & (not episode.terminated),
                infos={"note": np.zeros(len(episode.actions) + 1)},
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return minari.create_dataset_from_buffers(
            ID, buffers, observation_space=observation_space, action_space=action_space, **others
        )


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
def test_every_format_is_read_whole_and_without_network(data_format, monkeypatch):
    episodes = make_episodes([(3, True), (2, False), *[(4, True)] * 10])
    create(episodes, VECTOR32, data_format=data_format)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("reading touched the network"))
    assert_same(read_episodes(ID), episodes)


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
def test_dict_observations_are_flattened_in_their_recorded_order_and_keep_the_goal(data_format):
    space = Dict(observation=Box(-1, 1, (2,)), desired_goal=Dict(xy=Box(-1, 1, (1,))), achieved_goal=Box(-1, 1, (1,)))
    episodes = make_episodes([(3, True), (2, False)], observation_size=4)
    create(
        episodes,
        observation_space=space,
        observations=lambda o: {
            "observation": o[:, 2:],
            "desired_goal": {"xy": o[:, 1:2]},
            "achieved_goal": o[:, :1],
        },
        data_format=data_format,
    )
    assert minari_store.read_stored(ID).observation_keys == (
        ("achieved_goal",),
        ("desired_goal", "xy"),
        ("observation",),
    )
    assert_same(read_episodes(ID), episodes)


def test_the_environment_is_flattened_in_the_order_of_the_data():
    keys = (("observation",), ("desired_goal",))
    plain = gym.make("PointMaze_UMaze-v3")
    observation, _ = plain.reset(seed=4)
    env = environments.make("PointMaze_UMaze-v3", keys=keys, observation_size=6)
    flat, _ = env.reset(seed=4)
    np.testing.assert_array_equal(flat, np.concatenate([observation["observation"], observation["desired_goal"]]))
    assert env.observation_space.contains(flat)


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (Discrete(5), UNIT, f"{ID}: Discrete observations cannot be learnt from"),
        (Box(0, 255, (64, 64, 3), np.uint8), UNIT, r"image \(64, 64, 3\) observations"),
        (Box(-1, 1, (3, 2)), UNIT, r"Box \(3, 2\) observations"),
        (Tuple([VECTOR]), UNIT, "Tuple observations"),
        (Dict(a=Box(-1, 1, (2,)), mission=Text(5)), UNIT, r"observation\['mission'\]: Text observations"),
        (VECTOR, Discrete(3), f"{ID}: Discrete actions cannot be learnt from"),
        (VECTOR, Dict(a=UNIT), "Dict actions"),
        (Box(-1, 1, (0,)), UNIT, f"{ID}: its observations hold no number"),
        (Dict({}), UNIT, f"{ID}: its observations hold no number"),
        (Dict(a=Dict({}), b=Box(-1, 1, (0,))), UNIT, f"{ID}: its observations hold no number"),
        (VECTOR, Box(-1, 1, (0,)), r"Box \(0,\) actions"),
    ],
)
def test_spaces_that_cannot_be_learnt_from_are_refused_in_one_line(observation_space, action_space, message):
    create([], observation_space=observation_space, action_space=action_space)
    with pytest.raises(ValueError, match=message):
        read_episodes(ID)


def test_actions_are_scaled_by_their_bounds_and_so_is_the_environment():
    episodes = make_episodes([(3, True)], action_size=1)
    recorded = [e._replace(actions=2 * e.actions) for e in episodes]
    create(recorded, action_space=Box(-2, 2, (1,), np.float32), eval_env="Pendulum-v1")
    np.testing.assert_allclose(read_episodes(ID)[0].actions, episodes[0].actions, atol=1e-7)
    env = tasks.get_task(ID, num_steps=1, seed=0).make_env()
    assert (env.action_space.low, env.action_space.high) == (-1, 1)


@settings(deadline=None, max_examples=30)
@given(st.floats(-50, 0), st.floats(0.5, 50), st.floats(0, 1))
def test_scaling_takes_the_bounds_to_minus_one_and_one(low, width, share):
    scaled = ActionRange((low,), (low + width,)).to_unit(np.array([low, low + share * width, low + width]))
    np.testing.assert_allclose(scaled, [-1, 2 * share - 1, 1], atol=1e-9)


def test_an_action_out_of_bounds_is_refused_with_its_episode_and_step():
    episodes = make_episodes([(3, True), (3, True)])
    episodes[1].actions[2, 0] = -1.5
    create(episodes)
    with pytest.raises(
        ValueError,
        match=r"episode 1: actions\[2\] lies 0.5 beyond \[-1, 1\] .* 1 of its 3 .*--actions clip.*--actions scale",
    ):
        read_episodes(ID)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_an_episode_is_cut_at_every_termination_and_no_reward_is_lost_without_a_word(flags):
    (episode,) = make_episodes([(len(flags), False)])
    terminals = np.array(flags)
    pieces, behind = cut_at_terminals(episode, terminals)
    runs = sum(now and not before for before, now in zip([False, *flags], flags, strict=False))
    assert sum(piece.terminated for piece in pieces) == runs
    kept = sum(float(piece.rewards.sum(dtype=np.float64)) for piece in pieces)
    whole = float(episode.rewards.sum(dtype=np.float64))
    np.testing.assert_allclose(kept + float(episode.rewards[behind].sum(dtype=np.float64)), whole, atol=1e-6)
    assert sum(len(piece.actions) for piece in pieces) == (~behind).sum()
    assert all(len(piece.observations) == len(piece.actions) + 1 for piece in pieces)


def test_an_episode_that_goes_on_after_its_termination_is_cut_there_and_that_is_said(capsys):
    # Ends after step 1; step 2 belongs to the same end; step 3 is what comes after.
    (first, second) = make_episodes([(4, False), (4, False)])
    create([first, second], VECTOR32, flags=np.array([False, True, True, False]))
    episodes = read_episodes(ID)
    assert [(len(e.actions), e.terminated) for e in episodes] == [(2, True), (1, False)] * 2
    np.testing.assert_array_equal(episodes[0].observations, first.observations[:3])
    np.testing.assert_array_equal(episodes[3].observations, second.observations[3:])
    behind = first.rewards[2] + second.rewards[2]
    assert "2 episodes go on behind a termination and are cut there; 2 further terminations in a row are left out " in (
        capsys.readouterr().err
    )
    _, changes = minari_reading.read_and_clip(minari_store.read_stored(ID), may_clip=False)
    assert (changes.cut_episodes, changes.dropped_behind) == (2, 2)
    assert changes.reward_behind == pytest.approx(float(behind))


def damage_metadata(folder, **changes):
    path = folder / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: damage_metadata(f, total_steps=6), "episode 1: more steps than the 6 its metadata"),
        (lambda f: damage_metadata(f, total_steps=70), "7 steps in 2 episodes, its metadata.json promises 70 in 2"),
        (lambda f: damage_metadata(f, total_episodes=3), "cannot be read"),
        (lambda f: damage_metadata(f, minari_version="9.9.9"), "does not support"),
        (lambda f: damage_metadata(f, observation_space="{}"), "not a readable Minari data set"),
        (lambda f: (f / "metadata.json").unlink(), "not a readable Minari data set"),
        (lambda f: (f / "main_data.hdf5").write_bytes(b"\x89HDF"), "cannot be read"),
    ],
)
def test_a_damaged_data_set_is_refused_by_its_folder(damage, message):
    create(make_episodes([(4, False), (3, True)]))
    folder = get_dataset_path(ID) / "data"
    damage(folder)
    with pytest.raises(ValueError, match=f"{folder}.*{message}"):
        read_episodes(ID)


@pytest.mark.parametrize("data_format", ["arrow", "parquet"])
@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b"PAR1"), lambda file: file.unlink()])
def test_a_damaged_episode_is_refused_by_its_folder_and_number(data_format, damage):
    create(make_episodes([(4, False), (3, True)]), VECTOR32, data_format=data_format)
    folder = get_dataset_path(ID) / "data"
    damage(next((folder / "1").glob("part-*")))
    with pytest.raises(ValueError, match=f"{folder}, episode 1: cannot be read"):
        read_episodes(ID)


@pytest.mark.parametrize("name", ["episode_1", "episode_1/rewards"])
def test_what_is_missing_in_the_file_is_refused_with_its_episode(name):
    create(make_episodes([(4, False), (3, True)]))
    with h5py.File(get_dataset_path(ID) / "data" / "main_data.hdf5", "a") as file:
        del file[name]
    with pytest.raises(ValueError, match="episode 1: cannot be read"):
        read_episodes(ID)


def test_arrays_of_different_lengths_inside_an_episode_are_refused():
    create(make_episodes([(4, False)]))
    with h5py.File(get_dataset_path(ID) / "data" / "main_data.hdf5", "a") as file:
        del file["episode_0/rewards"]
        file["episode_0/rewards"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"episode 0: 5 observations, actions of shape \(4, 2\), 3 rewards"):
        read_episodes(ID)


def test_more_episodes_than_are_read_in_one_opening(monkeypatch):
    monkeypatch.setattr(minari_formats, "EPISODES_PER_OPENING", 2)
    episodes = make_episodes([(2 + i, bool(i % 2)) for i in range(5)])
    create(episodes)
    assert_same(read_episodes(ID), episodes)


def test_an_episode_that_arrow_stores_in_several_batches_is_read_whole():
    import pyarrow.ipc

    episodes = make_episodes([(7, True), (4, False)])
    create(episodes, VECTOR32, data_format="arrow")
    path = get_dataset_path(ID) / "data" / "0" / "part-0.arrow"
    table = pyarrow.ipc.open_file(path.read_bytes()).read_all()
    with pyarrow.ipc.new_file(path, table.schema) as file:
        file.write_table(table, max_chunksize=3)
    assert_same(read_episodes(ID), episodes)


def test_reading_holds_the_data_once_and_little_else():
    episodes = make_episodes([(200, False)] * 50, observation_size=17, action_size=6)
    create(episodes, Box(-np.inf, np.inf, (17,), np.float32), Box(-1, 1, (6,), np.float32))

    def load():
        dataset, _ = flatten(read_episodes(ID), 0.99, None)
        fingerprint(dataset)
        segment_rows(dataset, 8, "absorb", split_episodes(dataset, 0.1, seed=0)[0])
        return dataset

    load()  # imports what is imported on the way
    tracemalloc.start()
    dataset = load()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.4 * sum(array.nbytes for array in dataset)


def test_a_missing_data_set_is_refused_with_the_command_that_makes_it():
    with pytest.raises(ValueError, match=r"no data set 'none-v0'.*python -m dwm_jax.data prepare none$"):
        read_episodes("none-v0")


def test_episodes_read_share_their_memory_with_the_data_set():
    episodes = make_episodes([(3, True), (2, False)])
    create(episodes)
    stored = read_episodes(ID)
    dataset, _ = flatten(stored, 0.99, 1.0)
    assert np.shares_memory(dataset.observations, stored[1].observations)
    copied, _ = flatten(episodes, 0.99, 1.0)
    for name, array in dataset._asdict().items():
        np.testing.assert_array_equal(array, getattr(copied, name), err_msg=name)


def test_rows_are_a_sequence_of_episodes():
    episodes = make_episodes([(3, True), (2, False), (4, True)])
    rows = EpisodeRows.of(episodes)
    assert len(rows) == 3
    assert_same(rows, episodes)
    assert_same(rows[1:], episodes[1:])
    assert_same([rows[-1]], [episodes[2]])
    with pytest.raises(IndexError):
        rows[3]


def test_a_data_set_of_others_is_a_task_under_its_id():
    create(make_episodes([(3, True)], 11, 3), Box(-9, 9, (11,)), Box(-1, 1, (3,)), eval_env="Hopper-v4")
    damage_metadata(get_dataset_path(ID) / "data", ref_min_score=1.0, ref_max_score=3.0)
    task = tasks.get_task(ID, num_steps=1, seed=0)
    assert task.reference_scores == (1.0, 3.0)
    assert task.return_scale == 400
    # In proportion to the longest return: 1 / (1 - 0.99) = 100 steps, 1 / (1 - 0.998) = 500.
    assert task.return_scale_at(0.99) == 400
    np.testing.assert_allclose(task.return_scale_at(0.998), 2000)
    assert task.return_scale_at(1.0) is None  # the largest in the data
    assert task.make_env().reset(seed=0)[0].shape == (11,)
    assert tasks.is_known(ID)
    assert ID in tasks.known_names()


def test_without_an_environment_or_scores_there_is_a_line_about_the_one_and_none_of_the_other():
    create(make_episodes([(3, True)]))
    assert minari_store.read_stored(ID).reference_scores is None
    task = tasks.get_task(ID, num_steps=1, seed=0)
    assert not task.has_environment
    with pytest.raises(ValueError, match=r"names no environment to evaluate policies in, .* import it .* --env ID"):
        task.make_env()


@pytest.mark.parametrize("name", ["hopper-medium-v2", "antmaze-umaze-v2"])
def test_a_known_task_that_is_not_prepared_says_how_to(name):
    assert tasks.is_known(name)
    with pytest.raises(ValueError, match=f"{name} is not prepared in .*python -m dwm_jax.data prepare {name} .*--file"):
        tasks.get_task(name, num_steps=1, seed=0)


def test_a_mistyped_task_is_answered_with_the_one_that_is_most_like_it():
    with pytest.raises(
        ValueError, match=r"unknown task 'maze2d-umase'; did you mean 'maze2d-umaze'\? known tasks are "
    ):
        tasks.get_task("maze2d-umase", num_steps=1, seed=0)


@pytest.mark.parametrize("name", ["nothing", "a b", "../up-v0", "", "hopper-medium-v9"])
def test_an_unknown_task_is_refused_with_the_known_ones(name):
    assert not tasks.is_known(name)
    with pytest.raises(ValueError, match=r"unknown task .*maze2d-umaze, .*walker2d-medium-replay-v2"):
        tasks.get_task(name, num_steps=1, seed=0)


def test_observation_keys_of_a_vector_and_one_observation():
    assert observation_keys(VECTOR, "x") == ((),)
    flat = flatten_observations({"a": np.ones(2), "b": {"c": np.zeros(())}}, (("b", "c"), ("a",)), batch_axes=0)
    assert flat.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("environment", "arguments", "message"),
    [
        ("Nothing-v0", {}, "environment 'Nothing-v0' cannot be made here"),
        ("Hopper-v4", {"observation_size": 17}, "gives 11 observations, the data has 17; name its own with --env"),
        ("Hopper-v4", {"actions": ActionRange((-1.0,) * 6, (1.0,) * 6)}, "takes 3 actions, the data has 6"),
        ("Pendulum-v1", {"actions": ActionRange((-1.0,), (1.0,))}, "name its own with --env"),
        ("Hopper-v4", {"keys": (("goal",),)}, "has the observations .* the data"),
        ("CartPole-v1", {}, "CartPole-v1: Discrete actions cannot be learnt from"),
    ],
)
def test_an_environment_that_does_not_fit_the_data_is_refused(environment, arguments, message):
    with pytest.raises(ValueError, match=message):
        environments.make(environment, **arguments)


@pytest.mark.parametrize(
    ("environment", "size", "actions", "limit"),
    [
        ("Hopper-v4", 11, 3, 1000),
        ("HalfCheetah-v4", 17, 6, 1000),
        ("Walker2d-v4", 17, 6, 1000),
        ("maze2d-umaze-v1", 4, 2, 300),
        ("antmaze-umaze-v2", 29, 8, 700),
    ],
)
def test_the_environments_of_the_d4rl_tasks_run(environment, size, actions, limit):
    env = environments.make(
        environment, actions=ActionRange((-1.0,) * actions, (1.0,) * actions), observation_size=size
    )
    first, _ = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    np.testing.assert_array_equal(first, again)
    observation, _, terminated, truncated, _ = env.step(np.zeros(actions, np.float32))
    assert observation.shape == (size,)
    assert not terminated
    assert not truncated
    assert environments.clock_of(env) == limit


def test_maze2d_speaks_d4rls_coordinates():
    # The middle of the simulator's lower right cell (x, y) = (1, -1): D4RL's row 3, column 3, less the body's offset.
    maze = d4rl_mazes.Maze2dV1("umaze")
    np.testing.assert_allclose(maze.to_d4rl(np.array([1.0, -1.0, 0.5, 0.25])), [2.8, 2.8, -0.25, 0.5])
    before, _ = maze.reset(seed=3)
    for _ in range(5):
        after, *_ = maze.step(np.array([0.0, 1.0], np.float32))
    # In 0.05 s the start's velocity, 0.1 N(0, 1), carries it by some thousandths.
    assert after[1] - before[1] > 0.03
    assert abs(after[0] - before[0]) < 0.03
