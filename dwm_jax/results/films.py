"""Films: frames in, a file out (.gif, or .mp4 where imageio-ffmpeg is installed), whole or not at all."""

import importlib.util
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import imageio.v2 as imageio
import numpy as np

from dwm_jax.runtime import files

# Frames a second. Some simulators draw 125; a .gif counts in hundredths of a second, and viewers show frames of less
# than two hundredths for ten.
MOST_FPS = 30


def check_name(option: str, path: Path) -> None:
    """Refuses a film that could not be written, before anything is computed.

    Args:
      option: of the command line, for the message.

    Raises:
      ValueError: not a name for a film, or what writes .mp4 is missing.
    """
    if path.suffix not in (".mp4", ".gif"):
        raise ValueError(f"{option} {path}: the name must end in .mp4 or .gif")
    if path.suffix == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise ValueError(f"{option} OUT.mp4 needs imageio-ffmpeg: pip install imageio-ffmpeg; OUT.gif works without")
    if path.is_dir():
        raise ValueError(f"{option} {path}: it is a folder")
    files.refuse_unwritable(f"{option} {path}", path.parent)


def steps_a_frame(fps: float) -> int:
    """How many steps of the simulator one frame stands for, at `fps` steps a second."""
    return math.ceil(fps / MOST_FPS)


def write(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes frames, uint8 (height, width, 3), as they come.

    Raises:
      WriteError: the disk is full or cannot be written; what was there before is still there.
    """
    if path.suffix == ".gif":
        # Its writer keeps all frames until the end; one that fails at a file of its own would try again as it is freed.
        files.write_from(path, lambda file: _append(frames, file, format=".gif", duration=1000 / fps, loop=0))
        return
    aside = path.with_name(f".partial-{path.name}")  # its ending tells the writer the format
    try:
        with files.named_in_errors(path):
            files.make_folder(path.parent)
            _append(frames, aside, fps=fps, macro_block_size=1)
            files.put_in_place(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _append(frames: Iterable[np.ndarray], to: Path | BinaryIO, **how: Any) -> None:
    writer: Any = imageio.get_writer(to, **how)
    with writer as film:
        for frame in frames:
            film.append_data(frame)
