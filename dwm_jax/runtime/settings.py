"""Settings: the fields of a frozen dataclass. A field has its default and its meaning there, and nowhere else."""

import dataclasses
from collections.abc import Mapping
from typing import Any


def defaults(record: type) -> dict[str, Any]:
    """Every field with a default, in the order of the class: what a config may set.

    A subclass that fixes a field takes it back: `dataclasses.field(default=..., init=False)`.
    """
    fields: tuple[dataclasses.Field, ...] = dataclasses.fields(record)
    return {field.name: field.default for field in fields if field.init and field.default is not dataclasses.MISSING}


def settings_of(record: Any) -> dict[str, Any]:
    """What the fields with a default are set to."""
    return {name: getattr(record, name) for name in defaults(type(record))}


def from_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back, with its lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}


def require(record: Any, name: str, condition: bool, allowed: str) -> None:
    """Refuses the value of a field.

    Raises:
      ValueError: `name=value is not allowed: ...`.
    """
    if not condition:
        raise ValueError(f"{name}={getattr(record, name)!r} is not allowed: {allowed}")
