"""The one way of writing: whole or not at all, on the disk, and only where something changes."""

import errno
import os
from pathlib import Path

import pytest

from dwm_jax.runtime import files
from dwm_jax.runtime.checkpoints import refuse_place
from dwm_jax.runtime.files import PARTIAL, UnreadableError, WriteError


def test_a_file_is_flushed_before_it_gets_its_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        order.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def note_replace(source: Path, target: Path) -> None:
        order.append(("rename", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    files.write(tmp_path / "new" / "file.json", "1")
    expected = [("fsync", tmp_path.name), ("fsync", f"file.json{PARTIAL}"), ("rename", "file.json"), ("fsync", "new")]
    assert order == expected

    order.clear()
    (tmp_path / "aside").mkdir()
    (tmp_path / "aside" / "inside").write_text("2")
    files.put_in_place(tmp_path / "aside", tmp_path / "place")
    assert order == [("fsync", "inside"), ("fsync", "aside"), ("rename", "place"), ("fsync", tmp_path.name)]


def test_what_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write(path, "same")
    before = path.stat().st_ino, path.stat().st_mtime_ns
    files.write(path, b"same")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == before
    files.write(path, "other")
    assert path.read_text() == "other"


def test_a_full_disk_is_said_and_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    files.write(path, "earlier")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=rf"cannot write {path}: No space left .* still there\. Make room and start"):
        files.write(path, "later")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "earlier"


@pytest.mark.parametrize("earlier", ["", "hea", "header\n", "header\nro", "header\nrow 1\nro"])
def test_appending_drops_a_torn_line_and_begins_with_the_header(earlier: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(earlier)
    files.append(path, "row 2\n", header="header\n")
    whole = earlier[: earlier.rfind("\n") + 1] or "header\n"
    assert path.read_text() == whole + "row 2\n"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_what_cannot_be_read_is_named_and_absent_for_who_can_make_it_again(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(FileNotFoundError):
        files.read_json(path)
    assert files.find_json(path) is None
    assert capsys.readouterr().err == ""
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=rf"^{path} cannot be read: "):
        files.read_json(path)
    assert files.find_json(path) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path} cannot be read: ")
    assert line.endswith("; it is taken as absent")


def test_a_folder_that_cannot_be_filled_is_refused_and_nothing_is_made(tmp_path):
    files.refuse_unwritable("-o new/er", tmp_path / "new" / "er")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("mine")
    line = f"-o file: nothing can be written in {tmp_path / 'file'}: Not a directory; name another"
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=f"^{line}$"):
            files.refuse_unwritable("-o file", folder)
    with pytest.raises(ValueError, match="nothing can be written in /proc: "):
        files.refuse_unwritable("-o x", Path("/proc/no-folder"))
    (tmp_path / "link").symlink_to("gone")
    line = f"-o link: {tmp_path / 'link'} is a link to gone, which is not there; name another"
    for folder in (tmp_path / "link", tmp_path / "link" / "below"):
        with pytest.raises(ValueError, match=f"^{line}$"):
            files.refuse_unwritable("-o link", folder)
    with pytest.raises(ValueError, match=f"^{tmp_path / 'link'}: {tmp_path / 'link'} is a link to gone, which is not"):
        refuse_place(tmp_path / "link")


def test_text_with_a_name_that_is_no_utf8_is_written(tmp_path):
    files.write(tmp_path / "a.csv", os.fsdecode(b"caf\xe9 \xc3\xa9"))
    assert (tmp_path / "a.csv").read_text("utf-8") == "caf\\udce9 é"


def test_a_home_folder_that_no_shell_has_filled_in_is_refused_and_another_names_tilde_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    line = r"^~/runs: the shell has left its ~ as it is; write the whole path, /home/me/runs if that is meant$"
    for refuse in (files.refuse_tilde, refuse_place, lambda path: files.refuse_unwritable(f"-o {path}", path)):
        with pytest.raises(ValueError, match=line):
            refuse(Path("~/runs"))
    for name in ("~no-such-user/x", "runs~", "a/~/b", "/~"):
        files.refuse_tilde(Path(name))
