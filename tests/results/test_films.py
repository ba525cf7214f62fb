"""Films: written whole or not at all, whatever the format's writer does."""

import errno
import os
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest

from dwm_jax.results import films
from dwm_jax.runtime.files import WriteError
from tests import faults

FRAMES = [np.full((16, 16, 3), 80 * shade, np.uint8) for shade in range(3)]


def test_a_full_disk_leaves_the_film_that_was_there_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "film.gif"
    films.write(path, FRAMES, 10)
    before = path.read_bytes()
    assert len(imageio.mimread(path)) == 3
    with faults.full_disk(tmp_path, 1, monkeypatch), pytest.raises(WriteError, match=r"film\.gif: No space left"):
        films.write(path, FRAMES[::-1], 10)
    assert [one.name for one in tmp_path.iterdir()] == ["film.gif"]
    assert path.read_bytes() == before
    assert capfd.readouterr().err == ""


def test_a_writer_of_mp4_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Writer:
        def __init__(self, path: Path, **_: Any):
            path.write_text("half")

        def __enter__(self) -> "Writer":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def append_data(self, frame: np.ndarray) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(imageio, "get_writer", Writer)
    with pytest.raises(WriteError, match=r"film\.mp4: No space left"):
        films.write(tmp_path / "film.mp4", FRAMES, 10)
    assert list(tmp_path.iterdir()) == []
