"""A distilled world model in a run: one teacher for all of its pupils, kept, found, resumed, taken over, refused."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from dwm_jax.config import ConfigError, check
from dwm_jax.data.recording import Recording
from dwm_jax.phases import kept_models
from dwm_jax.phases.pretraining import pretraining, read_finished_model
from dwm_jax.train import run_phase
from dwm_jax.workdir import load_recording
from dwm_jax.world_models.base import TrainedModel
from tests import tiny

SMALL = {"world_models__dwm__width": 8, "world_models__dwm__multipliers": (1,)}


def config(**of_dwm: object) -> ConfigDict:
    return tiny.config(methods="DWM", **SMALL, **{f"world_models__dwm__{key}": value for key, value in of_dwm.items()})


@pytest.fixture(scope="module")
def recording() -> Recording:
    return load_recording(config())[1]


@pytest.fixture(scope="module")
def trained(recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedModel, TrainedModel]:
    """(the workdir, the teacher, its pupil)."""
    workdir = tmp_path_factory.mktemp("distilled") / "run"
    teacher = tiny.pretrain("dwm", config(), recording, workdir)
    return workdir, teacher, tiny.pretrain("dwm", config(distil=True, distil_updates=10), recording, workdir)


def described(workdir: Path) -> dict[str, tuple[Path, dict]]:
    """The folders of kept models by their phase."""
    found = {}
    for path in (workdir.parent / "world_models").glob("*/config.json"):
        identity = json.loads(path.read_text())
        found[kept_models.phase_name("dwm", identity["settings"])] = path.parent, identity
    return found


def test_the_teacher_is_the_model_as_it_was_and_the_pupil_says_what_it_learnt_from(trained: tuple) -> None:
    kept = described(trained[0])
    assert kept.keys() == {"world model dwm", "distilled world model dwm"}
    settings = kept["world model dwm"][1]["settings"]
    unread = {*kept_models.READ_BY_DECODING_ALONE, *kept_models.READ_BY_SAMPLING_ALONE, *kept_models.OF_DISTILLATION}
    assert not settings.keys() & unread
    of_pupil = kept["distilled world model dwm"][1]["settings"]
    assert {key: value for key, value in of_pupil.items() if key not in unread} == settings
    assert of_pupil["distil"] is True
    assert (of_pupil["num_updates"], of_pupil["distil_updates"]) == (20, 10)
    for phase, updates in (("world model dwm", 20), ("distilled world model dwm", 10)):
        rows = [json.loads(line) for line in (kept[phase][0] / "metrics.jsonl").read_text().splitlines()]
        assert {row["phase"] for row in rows} == {phase}
        assert rows[-1]["step"] == updates
        assert kept_models.is_finished(*kept[phase])


def test_its_teacher_is_the_one_that_was_trained_and_its_cost_is_both(trained: tuple) -> None:
    _, teacher, pupil = trained
    jax.tree.map(np.testing.assert_array_equal, pupil.state.model.teacher, teacher.inference.model)
    assert pupil.seconds > teacher.seconds
    params = jax.tree.leaves(pupil.inference.model.params), jax.tree.leaves(teacher.inference.model.params)
    assert any(np.abs(one - other).max() > 1e-6 for one, other in zip(*params, strict=True))


def test_another_way_of_sampling_is_another_pupil_of_the_same_teacher(trained: tuple, recording: Recording) -> None:
    run = tiny.run_of(config(distil=True, distil_updates=10), recording, trained[0])
    found = read_finished_model(run, "dwm")
    jax.tree.map(np.testing.assert_array_equal, found.inference, trained[2].inference)
    for other in ({"num_sampling_steps": 2}, {"temperature": 0.5}, {"guidance_weight": 2.0}, {"distil_updates": 20}):
        changed = config(**{"distil": True, "distil_updates": 10} | other)
        with pytest.raises(ValueError, match="no finished world model dwm"):
            read_finished_model(run._replace(config=changed), "dwm")
        before, taught = (
            kept_models.identity_of(kept_models.teacher_config(config, "dwm"), recording, "dwm")
            for config in (run.config, changed)
        )
        assert before == taught


def test_a_distillation_that_was_stopped_goes_on_as_if_it_had_not_been(
    trained: tuple, recording: Recording, tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(trained[0].parent / "world_models", tmp_path / "world_models")
    folder = described(workdir)["distilled world model dwm"][0]
    checkpoints = folder / "checkpoints" / "distilled world model dwm"
    before = tiny.final_arrays(folder)
    shutil.rmtree(folder)
    run = tiny.run_of(config(distil=True, distil_updates=10), recording, workdir)
    run.config.checkpoint_every = 5
    with pretraining(run, "dwm", trained[1]) as phase:
        run_phase(phase, run.cadence)
        shutil.rmtree(checkpoints / "10")
        run_phase(phase, run.cadence)
    after = tiny.final_arrays(folder)
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)


def test_a_pupil_is_taken_over_without_its_teacher_and_a_teacher_is_no_pupil(
    trained: tuple, recording: Recording, tmp_path: Path
) -> None:
    kept = described(trained[0])
    place = kept["distilled world model dwm"][0]
    settings = config(distil=True, distil_updates=10, pretrained=str(place))
    workdir = tmp_path / "run"
    workdir.mkdir()
    kept_models.check_pretrained(settings, recording, workdir)
    taken = tiny.pretrain("dwm", settings, recording, workdir)
    jax.tree.map(np.testing.assert_array_equal, taken.inference, trained[2].inference)
    assert described(workdir).keys() == {"distilled world model dwm"}
    settings.world_models.dwm.pretrained = str(kept["world model dwm"][0])
    with pytest.raises(ConfigError, match=r"settings\.distil: \(absent\) -> True") as refusal:
        kept_models.check_pretrained(settings, recording, tmp_path)
    assert "\n" not in str(refusal.value)


def test_updates_that_fill_no_dispatch_are_refused_where_they_are_made() -> None:
    with pytest.raises(ConfigError, match=r"dwm\.distil_updates=7 .* a multiple of updates_per_dispatch = 5"):
        check(config(distil=True, distil_updates=7), num_devices=1)
    check(config(distil=False, distil_updates=7), num_devices=1)


def test_what_goes_on_to_train_the_denoiser_is_refused() -> None:
    settings = tiny.config(methods="DWM-IQL+RTG", world_models__dwm__distil=True)
    with pytest.raises(ConfigError, match=r"world_models\.dwm\.distil=True .* False for DWM-IQL\+RTG"):
        check(settings, num_devices=1)
    settings.methods = "DWM-IQL,DAWM-IQL,AD-IQL"
    settings.world_models.autoregressive.distil = True
    check(settings, num_devices=1)
