"""Hands finished policies and world models to others, and gets theirs: through a folder, or the Hugging Face Hub.

    python -m dwm_jax.share push runs/quickstart hf://OWNER/NAME       a run's policies and world models, with a card
    python -m dwm_jax.share push runs/quickstart /mnt/shared/mazes     the same into a new folder
    python -m dwm_jax.share push runs/world_models/NAME hf://OWNER/NAME                               one world model
    python -m dwm_jax.share pull hf://OWNER/NAME shared                into the new folder `shared`
    python -m dwm_jax.evaluate shared
    python -m dwm_jax.train ... --config.world_models.dwm.pretrained=shared/world_models/NAME

The card (README.md, card.json) has the commands, commits and versions of the run, the fingerprint of its data, its
scores, and size and SHA-256 of every file. What is pulled may be anybody's: names, sizes and contents are checked
before the folder gets its name, and nothing in it is executed. A world model is taken over only by a run that would
have trained the same one: same data, same settings, same version.

A repository that is made is private unless --public. The Hub's token is the one of `hf auth login` or HF_TOKEN; it is
never written or shown. HF_ENDPOINT names another hub.

exit codes: 0 done, 1 the place cannot be reached, read or written, 2 the command is wrong, or what is there is not in
order; one line says what.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dwm_jax.runtime import terminal
from dwm_jax.runtime.arguments import local_path
from dwm_jax.runtime.progress import one_line, say
from dwm_jax.sharing import bundles, cards
from dwm_jax.sharing.places import BundleError, parse_place


@terminal.guard_output()
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        terminal.spell_commands("python -m dwm_jax.share"),
        description=terminal.spell_commands(__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="{push,pull}")
    to = commands.add_parser("push", help="hand over what is finished")
    to.add_argument("source", type=local_path, metavar="RUN", help="a run's workdir, or the folder of one world model")
    to.add_argument("place", metavar="PLACE", help="hf://OWNER/NAME, or a new folder")
    to.add_argument("--public", action="store_true", help="a repository that is made is one that everybody sees")
    to.set_defaults(run=push)
    back = commands.add_parser("pull", help="get what somebody has handed over")
    back.add_argument("place", metavar="PLACE", help="hf://OWNER/NAME[@REVISION], or a folder")
    back.add_argument("folder", type=local_path, metavar="FOLDER", help="a new folder")
    back.add_argument(
        "--max-gib",
        type=terminal.number_between(0, 2**20),
        default=10.0,
        metavar="N",
        help="largest total size of all files, in GiB (default: %(default)s)",
    )
    back.set_defaults(run=pull)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except ValueError as error:
        fail(error, 2)
    except OSError as error:
        fail(error, 1)


def push(options: argparse.Namespace) -> None:
    """Reads what is finished, writes its card, and puts both there."""
    place = parse_place(options.place, public=options.public)
    try:
        sources = bundles.find_sources(options.source)
        contents: dict[str, Path | bytes] = dict(sources.contents())
        card = cards.make_card(options.source, sources)
        contents[bundles.README] = cards.make_readme(card, list(contents)).encode()
    except (AttributeError, LookupError, TypeError) as error:  # a run may be another version's, or anybody's
        reason = f"{type(error).__name__}: {error}"
        raise BundleError(f"{options.source} holds what this version cannot read as a run's: {reason}") from error
    bundles.check_parts(sources)
    listed = bundles.list_files(contents)
    bundles.check_entries(listed, {name: entry["size"] for name, entry in listed.items()}, sys.maxsize)
    place.publish(contents | {bundles.CARD: bundles.text_of(card | {"files": listed})})
    size = sum(entry["size"] for entry in listed.values())
    say(
        f"{options.place}: {len(sources.policies)} file(s) of policies, {len(sources.models)} world model(s), "
        f"{size / 2**20:,.1f} MiB"
    )


def pull(options: argparse.Namespace) -> None:
    """Fetches and checks; says what there is and how it is used."""
    if os.path.lexists(options.folder):
        raise BundleError(f"{options.folder} is there already; name a new folder")
    place = parse_place(options.place)
    bundles.receive(place, options.folder, int(options.max_gib * 2**30))
    for path in sorted(options.folder.glob("policies/*.npz")):
        say(f"policies: {path}")
    for path in sorted(options.folder.glob("world_models/*")):
        say(f"world model: {path}")


def fail(error: Exception, code: int) -> None:
    """Says what is wrong in one line and leaves."""
    say(f"error: {one_line(error)}")
    sys.exit(code)


if __name__ == "__main__":
    main()
