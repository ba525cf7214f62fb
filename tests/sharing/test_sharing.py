"""Policies and world models through a folder and through the hub, and world models taken over from there."""

import errno
import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from dwm_jax import share
from dwm_jax.config import ConfigError, differences, to_json
from dwm_jax.data.recording import Recording
from dwm_jax.evaluate import find_exported_files
from dwm_jax.learners.iql import IQL
from dwm_jax.learners.policies import Acting
from dwm_jax.maths.normalizers import fit_standard
from dwm_jax.phases import kept_models
from dwm_jax.results import policy_files
from dwm_jax.results.policy_files import PolicyHeader
from dwm_jax.runtime.checkpoints import CheckpointError
from dwm_jax.runtime.files import WriteError
from dwm_jax.runtime.row_files import JsonLines, Result, Results
from dwm_jax.sharing import bundles
from dwm_jax.sharing.bundles import CARD, BundleError
from dwm_jax.sharing.places import Folder, PlaceError, fill_new_folder, parse_place
from dwm_jax.workdir import load_recording
from dwm_jax.world_models.base import TrainedModel
from tests import tiny
from tests.sharing import hub

# What a run's starts.jsonl says of how it was started; the home folder is nobody's business.
COMMAND = [f"{Path.home()}/venv/bin/python", "-m", "dwm_jax.train", "--workdir", f"{Path.home()}/runs/a b"]
SETTINGS = {"observation_size": 4, "action_size": 2, "num_updates": 1, "hidden": (8,)}
TOKEN = "hf_" + "secret" * 5


def config(**overrides: object) -> ConfigDict:
    return tiny.config(methods="OneStep-IQL", **overrides)


@pytest.fixture(scope="module")
def recording() -> Recording:
    return load_recording(config())[1]


@pytest.fixture(scope="module")
def finished(recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedModel]:
    """(a run's workdir, the world model beside it); the run's own files are written by hand."""
    workdir = tmp_path_factory.mktemp("runs") / "a"
    trained = tiny.pretrain("one_step", config(), recording, workdir)
    (workdir / "config.json").write_text(to_json(config()))
    (workdir / "data.json").write_text(json.dumps({"fingerprint": recording.fingerprint, "steps": 1200}))
    start = {"time": "2026-01-02T03:04:05+00:00", "command": COMMAND, "commit": "abc1234", "jax": "0.10.2", "cores": 2}
    JsonLines(workdir / "starts.jsonl").append([start])
    # Two seeds with 0.2 and 0.4: 0.30 ± 0.10.
    scores = [Result("OneStep-IQL", "maze2d-umaze", seed, 20, 0, 1.0, 0.2 + 0.2 * seed, 20.0) for seed in (0, 1)]
    Results(workdir / "results.csv").append(scores)
    learner = IQL(**SETTINGS)
    states_S = jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 2))
    policy_files.save_actors(
        workdir / "policies" / "OneStep-IQL.npz",
        PolicyHeader("OneStep-IQL", "maze2d-umaze", [0, 1], {"maze": "umaze"}),
        "iql",
        SETTINGS,
        Acting(learner.inference(states_S), fit_standard(np.eye(4))),
    )
    return workdir, trained


@pytest.fixture(scope="module")
def bundle(finished: tuple[Path, TrainedModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `push` makes of the run."""
    folder = tmp_path_factory.mktemp("shared") / "mazes"
    share.main(["push", str(finished[0]), str(folder)])
    return folder


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """One to be damaged."""
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def model_in(folder: Path) -> Path:
    (path,) = (folder / "world_models").iterdir()
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """(exit code, the one line) of a command that ends badly."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        share.main([str(argument) for argument in arguments])
    (line,) = capsys.readouterr().err.strip().splitlines()
    return int(end.value.code or 0), line


def test_a_bundle_comes_back_as_it_was_handed_over(bundle: Path, tmp_path: Path) -> None:
    share.main(["pull", str(bundle), str(tmp_path / "back")])
    assert files_of(tmp_path / "back") == files_of(bundle)
    assert [path.name for path in find_exported_files(tmp_path / "back")] == ["OneStep-IQL.npz"]
    assert {path.name for path in tmp_path.iterdir()} == {"back"}


def test_the_bytes_that_have_arrived_are_told_on_the_way_there_and_back(
    finished: tuple[Path, TrainedModel], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    share.main(["push", str(finished[0]), str(tmp_path / "there")])
    there = sum(map(len, files_of(tmp_path / "there").values()))
    assert f"copying: byte {there:,}/{there:,}" in capsys.readouterr().err
    share.main(["pull", str(tmp_path / "there"), str(tmp_path / "back")])
    # The card comes first: it says how much the others are.
    listed = there - (tmp_path / "there" / CARD).stat().st_size
    assert f"fetching: byte {listed:,}/{listed:,}" in capsys.readouterr().err


def test_the_card_says_where_it_comes_from(bundle: Path, recording: Recording) -> None:
    card = json.loads((bundle / CARD).read_text())
    assert card["data"]["fingerprint"] == recording.fingerprint
    (start,) = card["starts"]
    assert start["command"] == "python -m dwm_jax.train --workdir '~/runs/a b'"
    assert (start["commit"], start["jax"]) == ("abc1234", "0.10.2")
    assert "cores" not in start
    assert card["config"]["methods"] == "OneStep-IQL"
    (score,) = card["scores"]
    assert score["last"] == pytest.approx([0.3, 0.1])
    text = (bundle / "README.md").read_text()
    assert "| OneStep-IQL | score (0-1) | 2 | 20 | 0.30 ± 0.10 | 0.30 ± 0.10 |" in text
    assert f"--config.world_models.one_step.pretrained=shared/world_models/{model_in(bundle).name}" in text


def test_a_world_model_can_be_handed_over_by_itself(
    finished: tuple[Path, TrainedModel], bundle: Path, tmp_path: Path
) -> None:
    folder = finished[0].parent / "world_models" / model_in(bundle).name
    share.main(["push", str(folder), str(tmp_path / "alone")])
    assert files_of(tmp_path / "alone" / "world_models") == files_of(bundle / "world_models")


def test_the_hub_gives_back_what_it_got_and_the_token_stays_where_it_is(
    bundle: Path,
    finished: tuple[Path, TrainedModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    place = f"hf://{hub.REPOSITORY}"
    with hub.serving() as there:
        monkeypatch.setenv("HF_ENDPOINT", there.url)
        share.main(["push", str(finished[0]), place])
        assert there.files == files_of(bundle)
        (created,) = there.created
        assert (created["organization"], created["name"], created["visibility"]) == ("somebody", "mazes", "private")
        share.main(["pull", place, str(tmp_path / "back")])
        assert files_of(tmp_path / "back") == files_of(bundle)
        assert there.tokens - {None} == {f"Bearer {TOKEN}"}
        with pytest.raises(SystemExit):
            share.main(["pull", f"hf://nobody/{TOKEN}", str(tmp_path / "nothing")])
    said = capsys.readouterr()
    assert TOKEN not in said.out + said.err
    assert "error: hf://nobody/" in said.err
    assert not [name for name, content in files_of(tmp_path).items() if TOKEN.encode() in content]
    assert {path.name for path in tmp_path.iterdir()} == {"back"}


def test_a_hub_that_cannot_be_reached_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with hub.serving() as there:
        url = there.url
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    code, line = refused(capsys, "pull", "hf://a/b", tmp_path / "back")
    assert code == 1
    assert line.startswith("error: hf://a/b: ")


def test_what_is_there_already_or_not_at_all_is_refused(
    bundle: Path, finished: tuple[Path, TrainedModel], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = "is there already; name a new folder"
    assert refused(capsys, "push", finished[0], bundle) == (2, f"error: {bundle} {there}")
    assert refused(capsys, "pull", bundle, tmp_path) == (2, f"error: {tmp_path} {there}")
    link = tmp_path / "link"
    link.symlink_to("gone")
    assert refused(capsys, "push", finished[0], link) == (2, f"error: {link} {there}")
    assert refused(capsys, "pull", bundle, link) == (2, f"error: {link} {there}")
    link.unlink()
    assert refused(capsys, "pull", tmp_path / "no", tmp_path / "x") == (1, f"error: {tmp_path / 'no'}: no such folder")
    assert (
        refused(capsys, "pull", tmp_path, tmp_path / "x")[1]
        == "error: no card.json there: nothing that `share push` has put"
    )
    assert "holds neither a run nor a world model" in refused(capsys, "push", tmp_path, tmp_path / "x")[1]
    assert "a repository is written hf://OWNER/NAME" in refused(capsys, "push", finished[0], "hf://mazes")[1]
    assert list(tmp_path.iterdir()) == []


def test_what_lies_beside_a_new_folder_is_left_alone(
    bundle: Path, finished: tuple[Path, TrainedModel], tmp_path: Path
) -> None:
    mine = tmp_path / "new.partial" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("precious")
    share.main(["push", str(finished[0]), str(tmp_path / "new")])
    shutil.rmtree(tmp_path / "new")
    share.main(["pull", str(bundle), str(tmp_path / "new")])
    assert mine.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "new.partial"]


def test_what_a_killed_command_has_left_is_removed_by_the_next_of_that_name(tmp_path: Path) -> None:
    with fill_new_folder(tmp_path / "new") as at_work:
        (at_work / "a").write_text("half")
        killed = Path(shutil.copytree(at_work.parent, tmp_path / "new.killed.partial"))
        of_another_name = Path(shutil.copytree(killed, tmp_path / "newer.killed.partial"))
        mine = tmp_path / "new.mine.partial"
        mine.mkdir()
        with pytest.raises(RuntimeError), fill_new_folder(tmp_path / "new"):
            raise RuntimeError
        assert not killed.exists()
        assert (at_work / "a").read_text() == "half"
    assert set(tmp_path.iterdir()) == {tmp_path / "new", of_another_name, mine}


def test_of_two_at_once_the_first_gets_the_name_and_the_second_says_so(tmp_path: Path) -> None:
    def two_at_once() -> None:
        with fill_new_folder(tmp_path / "new") as second:
            (second / "b").write_text("second")
            with fill_new_folder(tmp_path / "new") as first:
                (first / "a").write_text("first")

    with pytest.raises(WriteError, match=r"cannot write .*new: "):
        two_at_once()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new" / "a").read_text() == "first"
    # As readable as any folder that somebody makes here.
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_disk_that_is_full_or_a_place_that_cannot_be_written_is_one_line(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = refused(capsys, "pull", bundle, "/proc/no-folder/new")
    assert (code, line.startswith("error: cannot write /proc/no-folder/new: ")) == (1, True)

    def full(source: Path, path: Path, **how: bool) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, str(path))

    monkeypatch.setattr(shutil, "copyfile", full)
    code, line = refused(capsys, "pull", bundle, tmp_path / "new")
    assert (code, line.startswith(f"error: cannot write {tmp_path / 'new'}: No space left on device")) == (1, True)
    assert line.endswith("Make room and start the same command again")
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match="gone cannot be read: No such file"):
        Folder(tmp_path).fetch("gone", tmp_path / "copy")


def test_an_unfinished_world_model_is_not_handed_over(
    finished: tuple[Path, TrainedModel], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model,) = (finished[0].parent / "world_models").iterdir()
    unfinished = Path(shutil.copytree(model, tmp_path / "unfinished"))
    shutil.rmtree(unfinished / "checkpoints" / "world model one_step" / "20")
    code, line = refused(capsys, "push", unfinished, tmp_path / "x")
    assert (code, "holds nothing that is finished" in line) == (2, True)


def rewrite(folder: Path, **changes: object) -> None:
    """Changes a bundle's card."""
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | changes))


@pytest.mark.parametrize(
    "name",
    [
        "../outside.npz",
        "/etc/passwd",
        "policies/../../outside.npz",
        "policies/..npz",
        "policies/.hidden.npz",
        "policies/a\x1b[2Jb.npz",
        "policies/a\\b.npz",
        "policies/a/b.npz",
        "policies/code.py",
        "setup.py",
        "card.json",
        "world_models/m/checkpoints/world model dwm/20/../../../../../x",
        "world_models/m/checkpoints/world model dwm/latest/state/d",
    ],
)
def test_a_name_that_is_none_of_a_bundles_is_refused(name: str, copy: Path, tmp_path: Path) -> None:
    rewrite(copy, files={name: {"size": 1, "sha256": "0" * 64}})
    with pytest.raises(BundleError, match="no name of a file that is shared"):
        bundles.receive(Folder(copy), tmp_path / "back", 2**30)
    assert {path.name for path in tmp_path.iterdir()} == {"copy"}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"format": 2}, "card.json has format 2, this version reads 1"),
        ({"format": [[]]}, r"card.json has format \[\[\]\], this version reads 1"),
        ({"files": None}, "its list of files is not in order"),
        ({"files": {"README.md": {"size": -1, "sha256": ""}}}, "its list of files is not in order"),
        ({"files": {"README.md": {"size": True, "sha256": ""}}}, "its list of files is not in order"),
        ({"files": {"README.md": {"size": 10**18, "sha256": ""}}}, "on the card 1,000,000,000,000,000,000"),
        ({"files": {"policies/x.npz": {"size": 1, "sha256": ""}}}, "policies/x.npz is on the card and not there"),
        ({"files": {f"policies/{n}.npz": {"size": 0, "sha256": ""} for n in range(10_001)}}, "lists 10,001 files"),
    ],
)
def test_a_card_that_is_not_in_order_is_refused(
    changes: dict[str, object], line: str, copy: Path, tmp_path: Path
) -> None:
    rewrite(copy, **changes)
    with pytest.raises(BundleError, match=line):
        bundles.receive(Folder(copy), tmp_path / "back", 2**30)
    assert {path.name for path in tmp_path.iterdir()} == {"copy"}


def test_other_bytes_links_and_too_many_bytes_are_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="more than the 1,000 that --max-gib allows"):
        bundles.receive(Folder(copy), tmp_path / "back", 1_000)
    readme = copy / "README.md"
    text = readme.read_text()
    readme.write_text(text.replace("dwm", "xyz"))
    with pytest.raises(BundleError, match=r"README.md is not the file that the card lists"):
        bundles.receive(Folder(copy), tmp_path / "back", 2**30)
    readme.rename(tmp_path / "elsewhere")
    readme.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"README.md is on the card and not there"):
        bundles.receive(Folder(copy), tmp_path / "back", 2**30)
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"model": "os.system"}, "is no world model of this version: 'os.system' is no model"),
        ({"model": ["dwm"]}, "is no world model of this version"),
        ({"settings": None}, "is no world model of this version"),
        ({"settings": {"no_such_setting": 1}}, "is no world model of this version: .* 'no_such_setting'"),
        ({"settings": {"num_updates": 40}}, "its last checkpoint is of update 20, not 40"),
    ],
)
def test_a_world_model_that_is_none_is_refused(
    changes: dict[str, object], line: str, copy: Path, tmp_path: Path
) -> None:
    described = model_in(copy) / "config.json"
    identity = json.loads(described.read_text())
    described.write_text(json.dumps(identity | changes))
    rewrite(copy, files=bundles.list_files({name: copy / name for name in files_of(copy) if name != CARD}))
    with pytest.raises(BundleError, match=line):
        bundles.receive(Folder(copy), tmp_path / "back", 2**30)


def taking(folder: Path, **overrides: object) -> ConfigDict:
    """The config of a run that takes the model in `folder`."""
    return config(world_models__one_step__pretrained=str(folder), **overrides)


def test_a_run_takes_a_shared_model_over_and_needs_it_no_more(
    copy: Path, finished: tuple[Path, TrainedModel], recording: Recording, tmp_path: Path
) -> None:
    workdir, own = tmp_path / "runs" / "b", taking(model_in(copy))
    kept_models.check_pretrained(own, recording, workdir)
    taken = tiny.pretrain("one_step", own, recording, workdir)
    jax.tree.map(np.testing.assert_array_equal, taken.state, finished[1].state)
    assert taken.seconds == finished[1].seconds

    # Under a name of its own: a run that trains its model does not find this one.
    identity = kept_models.identity_of(own, recording, "one_step")
    (folder,) = (tmp_path / "runs" / "world_models").iterdir()
    assert folder != kept_models.folder_of(own, workdir, identity)
    assert json.loads((folder / "config.json").read_text())["pretrained"]
    assert files_of(folder).keys() >= {"metrics.jsonl", "timing.jsonl"}

    shutil.rmtree(copy)
    kept_models.check_pretrained(own, recording, workdir)
    again = tiny.pretrain("one_step", own, recording, workdir)
    jax.tree.map(np.testing.assert_array_equal, again.state, finished[1].state)
    # A run that begins now has nothing to take.
    with pytest.raises(ConfigError, match="no trained world model there"):
        kept_models.check_pretrained(own, recording, tmp_path / "runs" / "c")


def test_a_shared_model_that_changes_under_a_run_is_refused(copy: Path, recording: Recording, tmp_path: Path) -> None:
    kept_models.check_pretrained(taking(model_in(copy)), recording, tmp_path / "b")
    record = tmp_path / "b" / kept_models.TAKEN_OVER
    record.write_text(json.dumps({"one_step": "0" * 64}))
    with pytest.raises(ConfigError, match=r"has changed since this run began: arrays 000000000000 -> [0-9a-f]{12}"):
        kept_models.check_pretrained(taking(model_in(copy)), recording, tmp_path / "b")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"world_models__one_step__hidden": (16,)}, r"wants: settings.hidden: \[32, 32\] -> \[16\]$"),
        ({"world_models__one_step__num_updates": 40}, r"wants: settings.num_updates: 20 -> 40$"),
        ({"gamma": 0.9}, "wants: gamma: 0.997 -> 0.9$"),
        ({"data__pad": "drop"}, "wants: pad: absorb -> drop$"),
    ],
)
def test_a_shared_model_of_other_settings_is_refused_with_the_difference(
    overrides: dict[str, object], line: str, bundle: Path, recording: Recording, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=line):
        kept_models.check_pretrained(taking(model_in(bundle), **overrides), recording, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_shared_model_of_other_data_or_version_or_folder_is_refused(
    copy: Path, recording: Recording, tmp_path: Path
) -> None:
    own, workdir = taking(model_in(copy)), tmp_path / "b"
    other = recording._replace(fingerprint="f" * 64)
    with pytest.raises(ConfigError, match=rf"data: {recording.fingerprint} -> {'f' * 64}$"):
        kept_models.check_pretrained(own, other, workdir)
    with pytest.raises(ConfigError, match=f"no config.json.; there are {model_in(copy)}$"):
        kept_models.check_pretrained(taking(copy), recording, workdir)
    described = model_in(copy) / "config.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"version": "0.2.0"}))
    with pytest.raises(ConfigError, match=r"wants: version: 0.2.0 -> "):
        kept_models.check_pretrained(own, recording, workdir)
    described.write_text("[]")
    with pytest.raises(ConfigError, match="no JSON object"):
        kept_models.check_pretrained(own, recording, workdir)


def test_a_shared_model_with_other_arrays_is_not_taken_over(
    copy: Path, finished: tuple[Path, TrainedModel], recording: Recording, tmp_path: Path
) -> None:
    folder, workdir = model_in(copy), tmp_path / "runs" / "b"
    kept_models.check_pretrained(taking(folder), recording, workdir)
    for path in (folder / "checkpoints" / "world model one_step" / "20" / "state").rglob("d/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    before = files_of(copy)
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read"):
        tiny.pretrain("one_step", taking(folder), recording, workdir)
    # What is somebody else's stays as it is.
    assert files_of(copy) == before


def test_off_is_as_if_there_were_no_such_setting() -> None:
    earlier = json.loads(to_json(config()))
    for model in earlier["world_models"].values():
        del model["pretrained"]
    assert differences(config(), earlier) == []
    (line,) = differences(taking(Path("shared/m")), earlier)
    assert line == "world_models.one_step.pretrained: (absent) -> shared/m"


def test_a_place_is_a_folder_or_a_repository() -> None:
    assert isinstance(parse_place("a/b"), Folder)
    for wrong in ("hf://a", "hf://a/b/c", "hf:///b", "hf://a/@main", "hf:/a/b", "http://a/b", "s3:/a"):
        with pytest.raises(BundleError, match="hf://OWNER/NAME"):
            parse_place(wrong)
    with pytest.raises(BundleError, match=r"^~/a: the shell has left its ~ as it is"):
        parse_place("~/a")
    with pytest.raises(PlaceError, match="no such folder"):
        Folder(Path("nowhere")).sizes()


@pytest.fixture
def run(finished: tuple[Path, TrainedModel], tmp_path: Path) -> Path:
    """The finished run, to be damaged, with its world model beside it."""
    shutil.copytree(finished[0].parent, tmp_path / "runs")
    return tmp_path / "runs" / finished[0].name


@pytest.mark.parametrize("change", [{"version": "0.2.0"}, {"heldout": [0]}])
def test_of_two_models_that_lie_side_by_side_the_one_that_the_run_used_is_handed_over(
    change: dict[str, object], run: Path, tmp_path: Path
) -> None:
    (used,) = (run.parent / "world_models").iterdir()
    other = Path(shutil.copytree(used, used.with_name("a-of-another-run")))
    identity = json.loads((used / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(identity | change))
    share.main(["push", str(run), str(tmp_path / "out")])
    assert model_in(tmp_path / "out").name == used.name


@pytest.mark.parametrize("content", [None, "", "{}"])
def test_a_run_without_a_record_of_its_models_hands_its_policies_over_and_says_so(
    content: str | None, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / kept_models.FOLDERS).unlink()
    if content is not None:
        (run / kept_models.FOLDERS).write_text(content)
    share.main(["push", str(run), str(tmp_path / "out")])
    assert not (tmp_path / "out" / "world_models").exists()
    assert "world model one_step is left out: " in capsys.readouterr().err


def test_a_record_that_points_elsewhere_hands_nothing_over_from_there(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (used,) = (run.parent / "world_models").iterdir()
    private = used.rename(tmp_path / "private")
    for path in (str(private), "../../private"):
        (run / kept_models.FOLDERS).write_text(json.dumps({"one_step": path}))
        out = tmp_path / f"out {len(path)}"
        share.main(["push", str(run), str(out)])
        assert not (out / "world_models").exists()
    assert capsys.readouterr().err.count("is left out: it is not there") == 2


def test_a_model_that_a_config_names_elsewhere_is_handed_over_and_said_to_lie_there(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    share.main(["push", str(run), str(tmp_path / "beside")])
    assert "taken from" not in capsys.readouterr().err
    (run.parent / "world_models").rename(tmp_path / "elsewhere")
    described = json.loads((run / "config.json").read_text()) | {"world_model_dir": str(tmp_path / "elsewhere")}
    (run / "config.json").write_text(json.dumps(described))
    share.main(["push", str(run), str(tmp_path / "out")])
    (model,) = (tmp_path / "elsewhere").iterdir()
    line = f"world model one_step is taken from {model.resolve()}, which the config of {run} names\n"
    assert line in capsys.readouterr().err
    assert model_in(tmp_path / "out").name == model.name


def test_a_link_that_leads_out_of_a_run_or_a_model_hands_nothing_over(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private = tmp_path / "private"
    private.write_text("secret")
    (model,) = (run.parent / "world_models").iterdir()
    (arrays,) = model.glob("checkpoints/*/20/state")
    links = {run / "policies" / "mine.npz": run, arrays / "mine": model, model / "timing.jsonl": model}
    for link, folder in links.items():
        link.unlink(missing_ok=True)
        link.symlink_to(private)
        line = f"error: {link} is a link to {private}, outside of {folder}; put the file itself there if it is meant"
        assert refused(capsys, "push", run, tmp_path / "out") == (2, line)
        assert not (tmp_path / "out").exists()
        link.unlink()


def test_a_model_that_has_gone_or_is_unfinished_is_left_out(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (used,) = (run.parent / "world_models").iterdir()
    shutil.rmtree(used / "checkpoints" / "world model one_step" / "20")
    share.main(["push", str(run), str(tmp_path / "unfinished")])
    shutil.rmtree(used)
    share.main(["push", str(run), str(tmp_path / "gone")])
    for name in ("unfinished", "gone"):
        assert not (tmp_path / name / "world_models").exists()
    assert capsys.readouterr().err.count(f"{used.resolve()} is left out") == 2


def test_what_nobody_could_use_is_not_handed_over(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "policies" / "OneStep-IQL.npz").write_text("hello")
    code, line = refused(capsys, "push", run, tmp_path / "out")
    assert code == 2
    assert "policies/OneStep-IQL.npz is not a file of exported policies" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["world_model_dir", "task"])
def test_a_run_of_another_version_is_one_line(
    key: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described = json.loads((run / "config.json").read_text())
    del described[key]
    (run / "config.json").write_text(json.dumps(described))
    code, line = refused(capsys, "push", run, tmp_path / "out")
    assert code == 2
    assert f"holds what this version cannot read as a run's: KeyError: '{key}'" in line


@pytest.mark.parametrize(
    ("file", "content"),
    [("config.json", '{"methods": 5}'), ("data.json", "{}"), ("starts.jsonl", '{"time": "x"}\n{"command": []}\n')],
)
def test_foreign_files_of_a_run_are_one_line(
    file: str, content: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / file).write_text(content)
    code, line = refused(capsys, "push", run, tmp_path / "out")
    assert code == 2
    assert line.startswith(f"error: {run} holds")


@pytest.mark.parametrize("limit", ["inf", "nan", "-1", "0"])
def test_a_limit_that_is_none_is_refused(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        share.main(["pull", "there", "here", f"--max-gib={limit}"])
    assert end.value.code == 2
    assert f"{limit} is not a number above 0 and at most" in capsys.readouterr().err


def test_the_folder_one_is_in_is_no_new_one(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert refused(capsys, "push", run, ".") == (2, "error: . is there already; name a new folder")
