"""The card of what is shared: where it comes from, for programs (card.json) and for people (README.md).

Everything on it was written down by the run as it happened: the command and commit of every start, versions, the
fingerprint of the data, the scores.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dwm_jax import __version__
from dwm_jax.config import PLACES
from dwm_jax.phases.kept_models import last_update
from dwm_jax.results import scores
from dwm_jax.runtime import files
from dwm_jax.runtime.row_files import TIMES, JsonLines, Results
from dwm_jax.sharing.bundles import FORMAT, Sources

# Of a start; where somebody's folders lie, and how busy the machine was, is nobody's business.
OF_A_START = ("time", "commit", "python", "jax", "flax", "numpy", "backend", "device_kind", "num_devices", "xla_flags")


def make_card(folder: Path, sources: Sources) -> dict[str, Any]:
    """The card of a run's workdir or a world model's folder, without the list of files."""
    described = files.read_json(folder / "config.json")
    models = {path.name: model_entry(path) for path in sources.models}
    card: dict[str, Any] = {"format": FORMAT, "package": "dwm_jax", "version": __version__, "world_models": models}
    if "methods" not in described:
        return card | {"data": {"fingerprint": described["data"]}, "starts": [], "scores": []}
    data = files.read_json(folder / "data.json")
    return card | {
        "task": described["task"],
        "data": {"fingerprint": data["fingerprint"], **data},
        "config": {key: value for key, value in described.items() if key not in PLACES},
        "starts": [start_entry(row) for row in JsonLines(folder / "starts.jsonl").find()],
        "scores": [score_entry(curve) for curve in scores.make_curves(Results(folder / "results.csv").read())],
    }


def model_entry(folder: Path) -> dict[str, Any]:
    """What a world model's training depended on, and how long it took."""
    identity = files.read_json(folder / "config.json")
    seconds = [row["seconds"] for row in JsonLines(folder / "timing.jsonl", TIMES).find()]
    return {key: value for key, value in identity.items() if key != "heldout"} | {"seconds": max(seconds, default=0.0)}


def start_entry(row: Mapping[str, Any]) -> dict[str, Any]:
    """Of a start the command, with the interpreter by its name and the home folder as ~, and OF_A_START."""
    arguments = [str(word) for word in row["command"][1:]]
    if arguments and Path(arguments[0]).name.startswith("dwm-"):
        shown = [Path(arguments[0]).name, *arguments[1:]]
    else:
        shown = ["python", *arguments]
    command = shlex.join(shown).replace(str(Path.home()), "~")
    return {"command": command} | {key: row.get(key) for key in OF_A_START}


def score_entry(curve: scores.Curve) -> dict[str, Any]:
    """Mean and standard deviation over seeds, of the last evaluation and of the last three."""
    last, last_three = (scores.final_scores(curve, number) for number in (1, 3))
    return {
        "method": curve.method,
        "unit": "return" if curve.is_raw else "score (0-1)",
        "seeds": int(last.size),
        "updates": int(curve.steps[-1]),
        "last": [float(last.mean()), float(last.std())],
        "last_three": [float(last_three.mean()), float(last_three.std())],
    }


def make_readme(card: Mapping[str, Any], contents: Sequence[str]) -> str:
    """The card as Markdown, with the Hub's header."""
    task = card.get("task", "world model")
    policies = [name for name in contents if name.startswith("policies/")]
    sections = [
        "---\nlibrary_name: dwm_jax\ntags:\n- reinforcement-learning\n- offline-rl\n- world-model\n---\n",
        f"# {task}\n",
        f"Made with dwm_jax {card['version']} (Diffusion World Model for offline reinforcement learning).\n",
    ]
    if card["scores"]:
        sections.append(table(card["scores"]))
    sections.append("## Use\n")
    if policies:
        sections.append("```\ndwm-share pull PLACE shared\ndwm-evaluate shared\n```\n")
    for folder, model in card["world_models"].items():
        name, updates = model["model"], last_update(model["settings"])
        distilled = " (one pass a trajectory)" if model["settings"].get("distil") else ""
        sections.append(
            f"World model `{name}`{distilled}, {updates:,} updates in {model['seconds']:,.0f} s, for runs on the same\n"
            f"data with the same settings:\n\n```\n--config.world_models.{name}.pretrained="
            f"shared/world_models/{folder}\n```\n"
        )
    sections.append("## Where it comes from\n")
    sections.append("".join(f"- {key} of the data: {value}\n" for key, value in card["data"].items() if value))
    for start in card["starts"]:
        known = ", ".join(f"{key} {start[key]}" for key in OF_A_START if start[key] not in (None, ""))
        sections.append(f"    {start['command']}\n\n{known}\n")
    return "\n".join(sections)


def table(entries: Sequence[Mapping[str, Any]]) -> str:
    """Scores as a Markdown table."""
    rows = [
        f"| {one['method']} | {one['unit']} | {one['seeds']} | {one['updates']} "
        f"| {one['last'][0]:.2f} ± {one['last'][1]:.2f} | {one['last_three'][0]:.2f} ± {one['last_three'][1]:.2f} |\n"
        for one in entries
    ]
    head = "| method | | seeds | updates | last evaluation | mean of the last three |\n|---|---|---|---|---|---|\n"
    return head + "".join(rows)
