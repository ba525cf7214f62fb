"""Manifests as a cluster would read them."""

import re
from typing import NamedTuple

import yaml


def filled(text: str, **values: object) -> dict:
    """A manifest with its variables replaced as the command in its first lines does, which has to name them all."""
    (names,) = re.findall(r"envsubst '([^']*)'", text)
    assert sorted(names.split()) == sorted(f"${name}" for name in values)
    for name, value in values.items():
        text = re.sub(rf"\$({name}\b|{{{name}}})", str(value), text)
    return yaml.safe_load(text)


class Container(NamedTuple):
    """What a pod starts."""

    command: list[str]
    environment: dict[str, str]


def job_of(manifest: dict) -> dict:
    """What a Job, or the only Job of a JobSet, is to be."""
    if manifest["kind"] == "JobSet":
        (only,) = manifest["spec"]["replicatedJobs"]
        manifest = only["template"]
    return manifest["spec"]


def pod_of(manifest: dict) -> dict:
    """The pod of that Job."""
    return job_of(manifest)["template"]["spec"]


def container(manifest: dict) -> Container:
    """The only container of the only pod."""
    (only,) = pod_of(manifest)["containers"]
    return Container(only["command"], {variable["name"]: variable["value"] for variable in only["env"]})
