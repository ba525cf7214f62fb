"""Where things are shared: a plain folder, or a model repository on the Hugging Face Hub (`hf://OWNER/NAME`).

A place gives names with sizes and copies of single files; whether a name or a size is one to accept is decided in
`bundles.py`. The Hub's client finds its token by itself (`hf auth login`, HF_TOKEN); none is ever asked for, written or
shown here.
"""

import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from dwm_jax import __version__
from dwm_jax.runtime import files
from dwm_jax.runtime.locks import InUseError, exclusive
from dwm_jax.runtime.progress import say, show_progress

HUB = "hf://"
# Held by whoever fills a folder, in the one that has its name until then.
LOCK = ".filling"


class PlaceError(OSError):
    """A place cannot be reached, read or written; one line says which and why."""


class BundleError(ValueError):
    """What is asked for is not there, or not in order; one line says what."""


class Place(Protocol):
    """Somewhere that files are shared."""

    def sizes(self) -> dict[str, int]:
        """The names that are there, with slashes, and the bytes of each."""
        ...

    def fetch(self, name: str, path: Path) -> None:
        """Copies one of those to a file that is not there yet."""
        ...

    def publish(self, contents: Mapping[str, Path | bytes]) -> None:
        """Puts them there, all or none."""
        ...


def parse_place(text: str, *, public: bool = False) -> Place:
    """The place that a command line names: `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION`, or a folder.

    Args:
      text: what was typed.
      public: a repository that is made is one that everybody sees.
    """
    if not text.startswith(HUB):
        # Path("hf:/OWNER/NAME") is a local folder.
        if ":/" in text:
            raise BundleError(f"{text} is neither a repository, which is written {HUB}OWNER/NAME, nor a folder")
        try:
            files.refuse_tilde(Path(text))
        except ValueError as error:
            raise BundleError(str(error)) from error
        return Folder(Path(text))
    repository, _, revision = text.removeprefix(HUB).partition("@")
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise BundleError(f"{text}: a repository is written {HUB}OWNER/NAME")
    return Hub(repository, revision or None, public)


class Folder:
    """A folder of this machine, or one that is mounted on it. Links in it are not followed."""

    def __init__(self, root: Path):
        self._root = root

    def sizes(self) -> dict[str, int]:
        if not self._root.is_dir():
            raise PlaceError(f"{self._root}: no such folder")
        found = [Path(folder, name) for folder, _, names in os.walk(self._root) for name in names]
        return {
            path.relative_to(self._root).as_posix(): path.stat().st_size
            for path in found
            if path.is_file() and not path.is_symlink()
        }

    def fetch(self, name: str, path: Path) -> None:
        copy(self._root / name, path)

    def publish(self, contents: Mapping[str, Path | bytes]) -> None:
        if os.path.lexists(self._root) and (not self._root.is_dir() or any(self._root.iterdir())):
            raise BundleError(f"{self._root} is there already; name a new folder")
        with fill_new_folder(self._root) as aside, show_transfer("copying", sizes_of(contents)) as arrived:
            for name, content in contents.items():
                path = aside / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, bytes):
                    path.write_bytes(content)
                else:
                    copy(content.resolve(), path)
                arrived(name)


class Hub:
    """A model repository of the Hub that HF_ENDPOINT names, or of huggingface.co."""

    def __init__(self, repository: str, revision: str | None, public: bool):
        from huggingface_hub import HfApi
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
        self._repository, self._revision, self._public = repository, revision, public
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="dwm_jax", library_version=__version__)

    def sizes(self) -> dict[str, int]:
        with self._named_errors():
            info = self._api.model_info(self._repository, revision=self._revision, files_metadata=True)
        # What is fetched afterwards is of the same commit, whatever is pushed meanwhile.
        self._revision = info.sha
        return {one.rfilename: one.size or 0 for one in info.siblings or ()}

    def fetch(self, name: str, path: Path) -> None:
        with self._named_errors(), tempfile.TemporaryDirectory(dir=path.parent) as cache:
            fetched = self._api.hf_hub_download(self._repository, name, revision=self._revision, cache_dir=cache)
            shutil.copyfile(fetched, path)

    def publish(self, contents: Mapping[str, Path | bytes]) -> None:
        from huggingface_hub import CommitOperationAdd

        # All files are one commit, of which the client tells nothing before it is done.
        size = sum(sizes_of(contents).values())
        say(f"{HUB}{self._repository}: sending {len(contents)} files, {size / 2**20:,.1f} MiB")
        with self._named_errors():
            self._api.create_repo(self._repository, private=not self._public, exist_ok=True)
            self._api.create_commit(
                self._repository,
                [CommitOperationAdd(name, content) for name, content in contents.items()],
                commit_message=f"dwm_jax {__version__}",
                revision=self._revision,
            )

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Whatever the client and the libraries below it raise, as one line without the token."""
        try:
            yield
        except Exception as error:
            reason = str(error).strip() or type(error).__name__
            raise PlaceError(hide_token(f"{HUB}{self._repository}: {reason}")) from None


def sizes_of(contents: Mapping[str, Path | bytes]) -> dict[str, int]:
    """The bytes of each file that is handed over."""
    return {
        name: len(content) if isinstance(content, bytes) else content.stat().st_size
        for name, content in contents.items()
    }


@contextmanager
def show_transfer(what: str, sizes: Mapping[str, int]) -> Iterator[Callable[[str], None]]:
    """Shows how many of the bytes of some files have arrived; to be told the name of each that has."""
    done = 0
    with show_progress(what, sum(sizes.values()), unit="byte") as shown:
        shown.advance(0)  # nothing is compiled before the first

        def arrived(name: str) -> None:
            nonlocal done
            done += sizes[name]
            shown.advance(done)

        yield arrived


def hide_token(text: str) -> str:
    """A text in one line, not too long, with the user's token left out wherever it stands."""
    from huggingface_hub import get_token

    token: Any = get_token()
    text = " ".join(text.split())
    return (text.replace(token, "[token]") if token else text)[:300]


@contextmanager
def fill_new_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, which gets its name, whole and on the disk, when the block has ended well.

    Its own name until then is one that nothing else has: what lies beside `folder` is left alone, but for what earlier
    ones of this name have left when they were killed.

    Raises:
      WriteError: it cannot be made or filled, or another one has got the name meanwhile.
    """
    if not folder.name:
        raise BundleError(f"{folder} is there already; name a new folder")
    try:
        files.make_folder(folder.parent.resolve())
        _remove_left(folder)
        with (
            tempfile.TemporaryDirectory(
                dir=folder.parent, prefix=f"{folder.name}.", suffix=files.PARTIAL, ignore_cleanup_errors=True
            ) as beside,
            ExitStack() as held,
        ):
            with suppress(ValueError):  # a disk without locks, on which nothing is removed afterwards
                held.enter_context(exclusive(Path(beside, LOCK), wait=True))
            aside = Path(beside, folder.name)  # inside, because that one is its owner's alone
            aside.mkdir()
            yield aside
            files.put_in_place(aside, folder)
    except (PlaceError, files.WriteError):
        raise
    except OSError as error:
        raise files.make_write_error(error, folder) from error


def _remove_left(folder: Path) -> None:
    """Removes what `fill_new_folder` has left beside `folder` where it was killed: a lock file says whose it was, and
    that its holder is gone.
    """
    for beside in folder.parent.glob(f"{glob.escape(folder.name)}.*{files.PARTIAL}"):
        with suppress(InUseError, OSError, ValueError):  # somebody is at work there, or it is another user's
            if Path(beside, LOCK).is_file():
                with exclusive(Path(beside, LOCK), wait=False):
                    shutil.rmtree(beside, ignore_errors=True)


def copy(source: Path, path: Path) -> None:
    """Copies one file, not what it links to, to one that is not there yet.

    Raises:
      PlaceError: the source cannot be opened.
      OSError: the copy cannot be written.
    """
    try:
        shutil.copyfile(source, path, follow_symlinks=False)
    except OSError as error:
        if error.filename == str(source) and error.filename2 is None:
            raise PlaceError(f"{source} cannot be read: {error.strerror}") from error
        raise
