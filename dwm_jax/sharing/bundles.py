"""What is handed over, and what is accepted: policies and finished world models of one run, with their card.

    README.md  card.json  policies/METHOD.npz  world_models/TASK-MODEL-DIGEST/{config.json, metrics.jsonl, timing.jsonl,
    checkpoints/world model MODEL/STEP/...}

A bundle may be anybody's. Its card lists every file with size and SHA-256; names that could lie anywhere else, files
that are not listed, other bytes than the listed ones and more than was asked for are refused, and what is left is
opened as the arrays and settings it claims to be. Nothing in it is executed.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dwm_jax.phases import kept_models
from dwm_jax.registry import METHODS, MODELS, make_model, models_needed, split_names
from dwm_jax.results import policy_files
from dwm_jax.runtime import files
from dwm_jax.runtime.checkpoints import CheckpointError
from dwm_jax.runtime.files import UnreadableError
from dwm_jax.runtime.progress import one_line, printable, say
from dwm_jax.runtime.settings import from_json
from dwm_jax.sharing.places import BundleError, Place, fill_new_folder, show_transfer
from dwm_jax.world_models.base import Training

# Of card.json; another one is refused.
FORMAT = 1
CARD, README = "card.json", "README.md"
LARGEST_CARD = 4 * 2**20
LARGEST_NUMBER = 10_000
OF_A_MODEL = ("config.json", "metrics.jsonl", "timing.jsonl")
# Parts of a name: no dot in front, nothing that a shell or a terminal would take for something else.
_PART = r"[A-Za-z0-9_+-][A-Za-z0-9_+ .-]{0,199}"
_NAMES = re.compile(
    rf"{README}|policies/{_PART}\.npz|world_models/{_PART}/(?:{'|'.join(map(re.escape, OF_A_MODEL))}"
    rf"|checkpoints/{_PART}/[0-9]{{1,12}}(?:/{_PART}){{1,8}})",
    re.ASCII,
)


class Sources(NamedTuple):
    """What a run has to share, by the folder or file it lies in."""

    policies: tuple[Path, ...]
    models: tuple[Path, ...]

    def contents(self) -> dict[str, Path]:
        """Every file by its name in the bundle; of a model's checkpoints the last.

        Raises:
          BundleError: one is a link to outside of the run, or of the model's folder, which may be anybody's.
        """
        for path in self.policies:
            refuse_outside(path, path.parents[1])
        named = {f"policies/{path.name}": path for path in self.policies}
        for folder in self.models:
            identity = files.read_json(folder / "config.json")
            step = kept_models.last_update(identity["settings"])
            last = kept_models.checkpoints_in(folder, identity) / str(step)
            paths = [folder / name for name in OF_A_MODEL] + sorted(path for path in last.rglob("*") if path.is_file())
            for path in paths:
                refuse_outside(path, folder)
            named |= {f"world_models/{folder.name}/{path.relative_to(folder).as_posix()}": path for path in paths}
        return named


def find_sources(folder: Path) -> Sources:
    """What there is to share in a run's workdir, or in the folder of one world model.

    Raises:
      BundleError: nothing that is finished, or neither of the two.
    """
    try:
        described = files.read_json(folder / "config.json")
    except FileNotFoundError:
        raise BundleError(f"{folder} holds neither a run nor a world model: no config.json") from None
    except UnreadableError as error:
        raise BundleError(str(error)) from None
    if "methods" in described:
        sources = Sources(tuple(sorted((folder / "policies").glob("*.npz"))), tuple(find_models(folder, described)))
    else:
        sources = Sources((), (folder,) if kept_models.is_finished(folder, described) else ())
    if not any(sources):
        raise BundleError(f"{folder} holds nothing that is finished: no policies, no world model trained to its end")
    return sources


def find_models(workdir: Path, described: Mapping[str, Any]) -> Iterator[Path]:
    """The folders of the finished world models that a run has used, which it has recorded."""
    beside = workdir.resolve().parent / "world_models"
    parent = Path(described["world_model_dir"]) if described["world_model_dir"] else beside
    elsewhere = f", which the config of {workdir} names" if parent.resolve() != beside else ""
    recorded = files.find_json(workdir / kept_models.FOLDERS) or {}
    methods = [METHODS[name] for name in split_names(described["methods"]) if name in METHODS]
    for name in models_needed(methods):
        # A run may be anybody's: its record names a folder beside the others, and no path to elsewhere.
        folder = parent / Path(str(recorded.get(name))).name
        if name not in recorded:
            say(f"world model {name} is left out: {workdir} has no record of its folder; start the run's command again")
        elif kept_models.is_finished(folder, files.find_json(folder / "config.json") or {}):
            if elsewhere:
                say(f"world model {name} is taken from {folder.resolve()}{elsewhere}")
            yield folder
        else:
            say(f"{folder} is left out: it is not there, or not trained to its end")


def refuse_outside(path: Path, folder: Path) -> None:
    """Refuses a link that leads out of the folder that somebody has named.

    Raises:
      BundleError: with where it leads.
    """
    if not (there := path.resolve()).is_relative_to(folder.resolve()):
        raise BundleError(f"{path} is a link to {there}, outside of {folder}; put the file itself there if it is meant")


def list_files(contents: Mapping[str, Path | bytes]) -> dict[str, dict[str, Any]]:
    """What a card says of its files: size and SHA-256 by name."""
    return {name: _entry(content) for name, content in contents.items()}


def receive(place: Place, folder: Path, limit: int) -> dict[str, Any]:
    """Copies the bundle of a place to a new folder, checked; returns its card.

    Args:
      place: where it is.
      folder: gets its name when everything is in order, and not before.
      limit: bytes that all its files may have together.

    Raises:
      BundleError: it is not in order.
      PlaceError: the place cannot be read.
    """
    there = place.sizes()
    if CARD not in there:
        raise BundleError(f"no {CARD} there: nothing that `share push` has put")
    if there[CARD] > LARGEST_CARD:
        raise BundleError(f"{CARD} has {there[CARD]:,} bytes, more than a card may have")
    with fill_new_folder(folder) as aside:
        place.fetch(CARD, aside / CARD)
        card = read_card(aside / CARD)
        check_entries(card["files"], there, limit)
        with show_transfer("fetching", {name: entry["size"] for name, entry in card["files"].items()}) as arrived:
            for name, entry in card["files"].items():
                path = aside / name
                path.parent.mkdir(parents=True, exist_ok=True)
                place.fetch(name, path)
                if _entry(path) != entry:
                    raise BundleError(f"{name} is not the file that the card lists: damaged, or changed since")
                arrived(name)
        check(aside)
    return card


def read_card(path: Path) -> dict[str, Any]:
    """The card, with its list of files in order.

    Raises:
      BundleError: it is no card, or of another format.
    """
    try:
        card = files.read_json(path)
    except UnreadableError as error:
        raise BundleError(printable(f"{CARD}: {error}")) from None
    if card.get("format") != FORMAT:
        raise BundleError(printable(f"{CARD} has format {str(card.get('format'))[:20]}, this version reads {FORMAT}"))
    entries = card.get("files")
    if not isinstance(entries, dict) or not all(_is_entry(entry) for entry in entries.values()):
        raise BundleError(f"{CARD}: its list of files is not in order")
    return card


def check_entries(entries: Mapping[str, Mapping[str, Any]], there: Mapping[str, int], limit: int) -> None:
    """Refuses names and sizes before anything is fetched.

    Raises:
      BundleError: naming the first.
    """
    if len(entries) > LARGEST_NUMBER:
        raise BundleError(f"{CARD} lists {len(entries):,} files; {LARGEST_NUMBER:,} are accepted")
    for name, entry in entries.items():
        if not _NAMES.fullmatch(name):
            raise BundleError(printable(f"{CARD} lists {name[:100]!r}: no name of a file that is shared"))
        if name not in there:
            raise BundleError(f"{name} is on the card and not there")
        if there[name] != entry["size"]:
            raise BundleError(f"{name} has {there[name]:,} bytes, on the card {entry['size']:,}")
    total = sum(entry["size"] for entry in entries.values())
    if total > limit:
        raise BundleError(f"its files have {total:,} bytes together, more than the {limit:,} that --max-gib allows")


def check(folder: Path) -> None:
    """Opens every policy and every world model of a bundle, as this version would use them.

    Raises:
      BundleError: one is not what it should be.
    """
    check_parts(Sources(tuple(sorted(folder.glob("policies/*.npz"))), tuple(sorted(folder.glob("world_models/*")))))


def check_parts(sources: Sources) -> None:
    """`check` of what is handed over, before anybody else gets it.

    Raises:
      BundleError: one is not what it should be.
    """
    for path in sources.policies:
        try:
            policy_files.load(path)
        except ValueError as error:
            reason = str(error).replace(str(path), f"policies/{path.name}")
            raise BundleError(printable(reason)) from None
    for path in sources.models:
        try:
            check_model(path)
        except (AttributeError, CheckpointError, LookupError, OSError, TypeError, ValueError) as error:
            reason = one_line(error) or type(error).__name__
            raise BundleError(
                printable(f"world_models/{path.name} is no world model of this version: {reason}")
            ) from None


def check_model(folder: Path) -> None:
    """Makes the model that a folder describes, and looks at its last checkpoint's description.

    The shapes of its arrays follow from the data; whoever takes them over compares them.
    """
    identity = files.read_json(folder / "config.json")
    name, settings = identity["model"], from_json(identity["settings"])
    if name not in MODELS:
        raise ValueError(f"{str(name)[:40]!r} is no model")
    make_model(name, **{key: value for key, value in settings.items() if key not in Training._fields})
    kept_models.fingerprint_of(folder, identity)


def text_of(card: Mapping[str, Any]) -> bytes:
    """The content of card.json."""
    return (json.dumps(card, indent=2) + "\n").encode()


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and set(entry) == {"size", "sha256"}
        and type(entry["size"]) is int
        and entry["size"] >= 0
        and isinstance(entry["sha256"], str)
    )


def _entry(content: Path | bytes) -> dict[str, Any]:
    if isinstance(content, bytes):
        return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    with open(content, "rb") as file:
        return {"size": content.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
