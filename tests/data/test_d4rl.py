"""Files in D4RL's layout become episodes without loss, and broken ones are refused with the file and the place."""

import re
from collections import Counter

import gymnasium as gym
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwm_jax.data import d4rl, minari_store
from dwm_jax.data.d4rl_tasks import D4RL_TASKS
from dwm_jax.data.dataset import flatten
from dwm_jax.data.environments import is_known
from tests.data.d4rl_files import arrays_of, assert_same, make_episodes, read, write

ENDS = st.lists(st.tuples(st.integers(2, 12), st.booleans()), min_size=1, max_size=6)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.hdf5"


@pytest.fixture
def arrays():
    """Three episodes, rows 0-4 (terminated), 5-9 (truncated), 10-14 (terminated)."""
    return arrays_of(make_episodes([(5, True), (5, False), (5, True)]))


@settings(deadline=None, max_examples=15)
@given(ends=ENDS)
def test_nothing_is_lost_from_file_to_minari_to_arrays(tmp_path_factory, ends):
    folder = tmp_path_factory.mktemp("case")
    episodes = make_episodes(ends)
    converted = read(write(folder / "data.hdf5", arrays_of(episodes))).episodes
    assert_same(converted, episodes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder / "minari"))
        contents = minari_store.Contents(
            converted,
            observation_space=gym.spaces.Box(-np.inf, np.inf, (3,), np.float32),
            action_space=gym.spaces.Box(-1, 1, (2,), np.float32),
            reference_scores=None,
            description="",
            algorithm="",
        )
        minari_store.make_once("case-v0", lambda: contents)
        stored = minari_store.read_episodes("case-v0")
    assert_same(stored, episodes)
    rows, _ = flatten(stored, 0.99, 1.0)
    np.testing.assert_array_equal(rows.observations, np.concatenate([e.observations for e in episodes]))
    actions = np.concatenate([np.concatenate([e.actions, np.zeros((1, 2), np.float32)]) for e in episodes])
    np.testing.assert_array_equal(rows.actions, actions)
    np.testing.assert_array_equal(rows.rewards, np.concatenate([np.append(e.rewards, 0) for e in episodes]))
    np.testing.assert_array_equal(rows.terminated, np.repeat([e for _, e in ends], [n + 1 for n, _ in ends]))


@settings(deadline=None, max_examples=15)
@given(ends=ENDS, double=st.booleans())
def test_only_truncated_episodes_lose_their_last_transition_without_next_observations(tmp_path_factory, ends, double):
    episodes = make_episodes(ends)
    arrays = arrays_of(episodes) | {"next_observations": None}
    if double:  # the flag of an end that is flagged twice: a termination is a termination
        arrays["timeouts"] = arrays["timeouts"] | arrays["terminals"]
    converted = read(write(tmp_path_factory.mktemp("case") / "data.hdf5", arrays))
    for actual, e in zip(converted.episodes, episodes, strict=True):
        kept = len(e.actions) if e.terminated else len(e.actions) - 1
        np.testing.assert_array_equal(actual.rewards, e.rewards[:kept])
        np.testing.assert_array_equal(actual.observations[: len(e.actions)], e.observations[:-1])
        assert actual.terminated == e.terminated
    assert converted.findings.next_observations == "absent"


@settings(deadline=None, max_examples=15)
@given(ends=ENDS)
def test_next_observations_prove_the_ends_that_timeouts_would_flag(tmp_path_factory, ends):
    episodes = make_episodes(ends)
    arrays = arrays_of(episodes) | {"timeouts": None}
    converted = read(write(tmp_path_factory.mktemp("case") / "data.hdf5", arrays), 12)
    assert_same(converted.episodes, episodes)
    assert converted.findings.cuts == sum(not terminated for _, terminated in ends[:-1])


@pytest.mark.parametrize(
    "change",
    [
        lambda a: {key: array.astype(np.float64) for key, array in a.items()},
        lambda a: {"rewards": a["rewards"][:, None], "terminals": a["terminals"][:, None]},
        lambda a: {"terminals": a["terminals"].astype(np.uint8), "timeouts": a["timeouts"].astype(np.float32)},
        lambda a: {"infos/qpos": np.zeros((15, 6)), "metadata/policy/fc0/weight": np.zeros((4, 4))},
    ],
    ids=["float64", "columns", "flags as numbers", "infos"],
)
def test_harmless_quirks_change_nothing(path, arrays, change):
    plain = read(write(path, arrays)).episodes
    write(path, arrays | change(arrays))
    assert_same(read(path).episodes, plain)


def test_rows_after_the_last_end_are_a_truncated_episode(path, arrays):
    arrays["terminals"][-1] = False
    converted = read(write(path, arrays))
    assert [e.terminated for e in converted.episodes] == [True, False, False]
    assert converted.findings.trailing_steps == 5


def test_episodes_of_one_step_are_kept(path):
    episodes = make_episodes([(3, True), (1, True), (4, False), (1, False)])
    assert_same(read(write(path, arrays_of(episodes))).episodes, episodes)


def test_a_recording_that_was_cut_without_a_flag_is_cut_there(path, arrays):
    arrays["timeouts"][:] = False
    converted = read(write(path, arrays))
    assert [len(e.actions) for e in converted.episodes] == [5, 5, 5]
    assert (converted.findings.cuts, converted.findings.first_cut) == (1, 9)


@pytest.mark.parametrize("flags", ["terminals", "timeouts"])
def test_next_observations_that_repeat_the_next_row_are_not_believed_about_ends(path, arrays, flags):
    other = {"terminals": "timeouts", "timeouts": "terminals"}[flags]
    arrays[flags], arrays[other] = arrays[flags] | arrays[other], np.zeros(15, bool)
    expected = read(write(path, arrays | {"next_observations": None}))
    arrays["next_observations"] = np.roll(arrays["observations"], -1, axis=0)
    converted = read(write(path, arrays))
    assert_same(converted.episodes, expected.episodes)
    assert converted.findings.next_observations == "shifted"


def test_an_action_beyond_its_bounds_by_rounding_is_clipped(path, arrays):
    arrays["actions"][3, 1] = 1.0005
    converted = read(write(path, arrays))
    assert converted.episodes[0].actions[3, 1] == 1
    assert converted.findings.clipped_actions == 1


@pytest.mark.parametrize("stored", ["text", "bytes", "array", "attribute", "nothing", "number", "circle"])
def test_the_environment_a_file_names(path, arrays, stored):
    write(path, arrays)
    with h5py.File(path, "a") as file:
        group = file.create_group("metadata")
        if stored == "attribute":
            group.attrs["environment"] = "Hopper-v5"
        elif stored != "nothing":
            values = {"text": "Hopper-v5", "bytes": b"Hopper-v5", "array": np.array([b"Hopper-v5"]), "number": 5}
            values["circle"] = h5py.SoftLink("/metadata/environment")
            group["environment"] = values[stored]
    assert d4rl.environment_of(path) == (None if stored in ("nothing", "number", "circle") else "Hopper-v5")


def nan(key, place):
    def change(arrays):
        arrays[key][place] = np.nan
        return arrays

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nan("observations", (7, 2)), r"observations\[7, 2\] is nan \(row 7; 1 such"),
        (nan("next_observations", (4, 0)), r"next_observations\[4, 0\] is nan"),
        (nan("rewards", 12), r"rewards\[12\] is nan"),
        (nan("actions", (14, 1)), r"actions\[14, 1\] is nan"),
        (lambda a: a | {"rewards": np.full(15, 1e300)}, r"rewards\[0\] is inf"),
        (lambda a: a | {"rewards": np.full(15, -1e18)}, r"rewards\[0\] is -1e\+18 .*15 such.*at most 1e\+15 in size"),
        (
            lambda a: a | {"actions": a["actions"] + 2},
            r"actions\[0\] is \[.*15 of 15 actions lie beyond \[-1, 1\], by up to .*--actions clip.*--actions scale",
        ),
        (lambda a: a | {"terminals": None}, "no terminals; it holds actions, next_observations, observations, rewards"),
        (lambda a: {}, "no observations, actions, rewards, terminals; it holds nothing"),
        (lambda a: {key: array[:0] for key, array in a.items()}, "zero rows, hence zero episodes"),
        (lambda a: a | {"rewards": a["rewards"][:9]}, "different lengths: observations 15, actions 15, rewards 9"),
        (lambda a: a | {"rewards": np.zeros((15, 2))}, r"rewards have shape \(15, 2\); \(N,\) is expected"),
        (lambda a: a | {"observations": np.zeros(15)}, r"observations have shape \(15,\); \(N, size\)"),
        (lambda a: a | {"next_observations": np.zeros((15, 4))}, r"next_observations have shape \(15, 4\)"),
        (lambda a: a | {"observations/a": np.zeros(15), "observations": None}, "observations is a group"),
        (lambda a: a | {"rewards": np.array([b"1"] * 15)}, "rewards is of type"),
        (lambda a: a | {"rewards": h5py.SoftLink("/nowhere")}, "(no rewards|rewards is a link to what is not there)"),
        (lambda a: a | {"rewards": h5py.SoftLink("/rewards")}, "rewards is a link to what .*too many links"),
        (lambda a: a | {"actions": h5py.ExternalLink("nowhere.hdf5", "/a")}, "(no actions|actions is a link)"),
        (lambda a: a | {"rewards": h5py.Empty("f")}, "rewards is empty; a flat array of numbers is expected"),
        (lambda a: a | {"observations": h5py.Empty("f")}, "observations is empty"),
        (lambda a: a | {"actions": np.zeros((15, 0))}, r"actions have shape \(15, 0\), hence no column"),
        (lambda a: a | {"terminals": np.full(15, 2)}, r"terminals\[0\] is 2; a flag is 0 or 1"),
        (lambda a: a | {"timeouts": np.full(15, np.nan)}, r"timeouts\[0\] is nan; a flag is 0 or 1"),
        (lambda a: a | {"timeouts": None, "next_observations": None}, "neither timeouts nor next_observations"),
        (lambda a: a | {"next_observations": a["observations"] + 1}, "at 12 of 15 rows.*in the order of time"),
        (
            lambda a: a | {"terminals": np.zeros(15), "timeouts": np.ones(15), "next_observations": None},
            r"no transition is left of its 15 row\(s\)",
        ),
    ],
)
def test_a_broken_file_is_refused_with_its_name_and_the_place(path, arrays, change, message):
    write(path, change(arrays))
    with pytest.raises(ValueError, match=f"(?s){re.escape(str(path))}: .*{message}"):
        read(path)


def test_a_file_without_timeouts_that_shows_no_end_at_the_limit_is_refused(path):
    arrays = arrays_of(make_episodes([(9, True), (4, True)])) | {"timeouts": None}
    with pytest.raises(ValueError, match=f"{path}: no timeouts, and the 9 steps up to row 8 pass .* limit of 8"):
        read(write(path, arrays), 8)


def test_rows_behind_a_terminal_do_not_count_towards_the_limit(path):
    # Of 20 rows the last three before the second episode are terminals: the first ends an episode of 8 steps, two are
    # left out, and 10 follow. Counted with these two, the second would have 12.
    (first, second) = make_episodes([(10, False), (10, False)])
    arrays = arrays_of([first, second]) | {"timeouts": None}
    arrays["terminals"][[7, 8, 9, 19]] = True
    found = read(write(path, arrays), 10)
    assert [len(episode.actions) for episode in found.episodes] == [8, 10]
    with pytest.raises(ValueError, match="the 10 steps up to row 19 pass the environment's limit of 9"):
        read(path, 9)


def test_next_observations_that_only_repeat_the_next_row_prove_no_end(path, arrays):
    arrays |= {"timeouts": None, "next_observations": np.roll(arrays["observations"], -1, axis=0)}
    with pytest.raises(ValueError, match=f"{path}: neither timeouts nor next_observations of its own"):
        read(write(path, arrays))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_a_file_truncated_anywhere_is_refused_by_name(path, share):
    write(path, arrays_of(make_episodes([(400, True)] * 3)))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f"{path}: truncated, or not an HDF5 file"):
        read(path)


def test_a_damaged_array_is_refused_by_name(path, arrays):
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array, chunks=True, compression="gzip", fletcher32=True)
        chunk = file["rewards"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 4] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}: rewards cannot be read, the file is damaged"):
        read(path)


def test_compression_by_a_filter_that_is_missing_is_refused_by_its_name(path, arrays):
    # LZ4 is registered as 32004; optional, so that data can be written without it here, and then marked as if with.
    with h5py.File(write(path, arrays | {"rewards": None}), "a") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((15,))
        properties.set_filter(32004, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((15,))
        data = h5py.h5d.create(file.id, b"rewards", h5py.h5t.IEEE_F32LE, space, properties)
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, arrays["rewards"])
    with pytest.raises(
        ValueError, match=f"{path}: rewards is compressed with HDF5 filter 32004 .*hdf5plugin, or .*gzip"
    ):
        read(path)


def test_a_missing_file_is_refused_by_name(path):
    with pytest.raises(ValueError, match=f"{path}: no such file"):
        read(path)


def test_the_table_holds_d4rls_tasks_under_d4rls_file_names():
    kinds = {"hopper": 6, "walker2d": 6, "halfcheetah": 6, "ant": 6, "maze2d": 3, "antmaze": 6, "kitchen": 3}
    kinds |= dict.fromkeys(["pen", "hammer", "door", "relocate"], 3)
    assert Counter(name.split("-")[0] for name in D4RL_TASKS) == kinds
    assert D4RL_TASKS["halfcheetah-medium-replay-v2"].urls == (
        "https://huggingface.co/datasets/imone/D4RL/resolve/main/halfcheetah_medium_replay-v2.hdf5",
        "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2/halfcheetah_medium_replay-v2.hdf5",
    )
    assert D4RL_TASKS["antmaze-large-play-v2"].file == (
        "Ant_maze_hardest-maze_noisy_multistart_True_multigoal_False_sparse_fixed.hdf5"
    )
    assert D4RL_TASKS["kitchen-mixed-v0"].urls == (
        "http://rail.eecs.berkeley.edu/datasets/offline_rl/kitchen/kitchen_microwave_kettle_bottomburner_light-v0.hdf5",
    )
    assert D4RL_TASKS["walker2d-medium-expert-v2"].environment == "Walker2d-v4"
    assert D4RL_TASKS["walker2d-medium-v2"].reference_scores == (1.629008, 4592.3)
    assert D4RL_TASKS["door-cloned-v1"].reference_scores == (-56.512833, 2880.5693087298737)
    nowhere = {name for name, task in D4RL_TASKS.items() if task.environment is None}
    assert {name.split("-")[0] for name in nowhere} == {"ant", "kitchen"}
    assert all(is_known(task.environment) for task in D4RL_TASKS.values() if task.environment is not None)
