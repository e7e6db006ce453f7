"""Configuration: frozen values from params, presets by name, unknown keys refused with the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from schema.errors import ConfigError


class Config(BaseModel):
    """Base of every stage's configuration. Fields are plain values; a section may name a preset and override it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, validate_default=True)

    @classmethod
    def from_section(cls, section: Mapping[str, Any], where: str, presets: Mapping[str, Self]) -> Self:
        """The configuration of a params section such as `{preset: smoke, layers: 1}`.

        `where` names the section in errors (`data.smoke.train`); raises ConfigError for an unknown preset or key, or a
        value of the wrong kind.
        """
        values = dict(section)
        name = values.pop("preset", None)
        if name is not None and (not isinstance(name, str) or name not in presets):
            raise ConfigError(f"unknown preset {name!r}", where=where, todo=f"use one of {', '.join(sorted(presets))}")
        base = presets[name].model_dump() if name is not None else {}
        return cls.checked({**base, **values}, where)

    @classmethod
    def checked(cls, values: Mapping[str, Any], where: str) -> Self:
        """Validate raw values; errors: `params.yaml data.smoke.regions.crop: unknown key, did you mean ...`."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(_explain(error, where, cls)) from None


def _explain(error: ValidationError, where: str, config: type[BaseModel]) -> str:
    lines = []
    for problem in error.errors():
        path = ".".join(filter(None, [where, *map(str, problem["loc"])]))
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(problem["loc"][-1]), _field_names(config), n=1, cutoff=0.4)
            lines.append(f"{path}: unknown key" + (f", did you mean {near[0]}?" if near else ""))
        elif problem["type"] == "missing":
            lines.append(f"{path}: missing")
        else:
            lines.append(f"{path}: {problem['msg']} (found {problem['input']!r})")
    return "params.yaml " + "\nparams.yaml ".join(lines)


def _field_names(config: type[BaseModel]) -> list[str]:
    names = list(config.model_fields)
    for field in config.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += list(field.annotation.model_fields)
    return names
