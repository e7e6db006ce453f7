"""Configuration: frozen values from params.yaml and presets by name. An error names the nearest known key."""

from __future__ import annotations

import datetime
import difflib
import reprlib
from collections.abc import Mapping
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from schema.errors import ConfigError

FILE = "params.yaml"  # the file that errors name by default
NEAR = 0.6  # difflib ratio from which a known key is suggested for a misspelt one


class Config(BaseModel):
    """Base class of every stage's configuration. A section may name a preset and override its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, validate_default=True)

    @classmethod
    def from_section(cls, section: Mapping[str, Any], where: str, presets: Mapping[str, Self]) -> Self:
        """The configuration of a params section such as `{preset: smoke, layers: 1}`.

        `model_fields_set` holds the keys that the section itself names. `where` names the section in errors, such as
        `data.smoke.train`. Raises ConfigError for an unknown preset or key, or a value of the wrong type.
        """
        values = dict(section)
        name = values.pop("preset", None)
        if name is not None and (not isinstance(name, str) or name not in presets):
            raise ConfigError(f"unknown preset {name!r}", where=where, todo=f"use one of {', '.join(sorted(presets))}")
        base = presets[name].model_dump() if name is not None else {}
        return cls.model_construct(set(values), **dict(cls._validated({**base, **values}, where, "preset")))

    @classmethod
    def checked(cls, values: Mapping[str, Any], where: str, *, file: str = FILE) -> Self:
        """Validate the raw values of a section of `file`. Raises ConfigError with a line for each problem."""
        return cls._validated(values, where, file=file)

    @classmethod
    def _validated(cls, values: Mapping[str, Any], where: str, *more: str, file: str = FILE) -> Self:
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            lines = _explain(error, where, cls, *more)
            raise ConfigError("\n".join(f"{file} {line}" for line in lines)) from None


def _explain(error: ValidationError, where: str, config: type[BaseModel], *more: str) -> list[str]:
    """One line per problem. `more`: keys that a section may have in addition to the fields of `config`."""
    lines = []
    for problem in error.errors():
        path = ".".join(filter(None, [where, *(str(part) for part in problem["loc"] if part != "[key]")]))
        if problem["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown key, {_instead(problem['loc'], config, more)}")
        elif problem["type"] == "missing":
            lines.append(f"{path}: missing")
        elif problem["type"] == "value_error":  # raised by our own validators, which say what was found
            lines.append(f"{path}: {problem['msg'].removeprefix('Value error, ')}")
        else:
            hint = _quote_hint(problem["input"]) if problem["type"] == "string_type" else ""
            lines.append(f"{path}: {problem['msg']} (found {reprlib.repr(problem['input'])}){hint}")
    return lines


def _quote_hint(value: object) -> str:
    """What to do about a text that YAML reads as another kind of value because it is not in quotes."""
    if isinstance(value, bool):
        return "; YAML reads yes, no, on and off as true or false: write the word in quotes, such as 'NO'"
    if isinstance(value, int | float | datetime.date):
        kind = "date" if isinstance(value, datetime.date) else "number"
        return f"; YAML reads it as a {kind}: write '{value}' in quotes"
    return ""


def _instead(place: tuple[int | str, ...], config: type[BaseModel], more: tuple[str, ...]) -> str:
    """The known key nearest to an unknown one, or all known keys if none is near."""
    for part in place[:-1]:
        config = _inner(config, part) or config
    known = [*config.model_fields, *(more if len(place) == 1 else ())]
    near = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=NEAR)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def _inner(config: type[BaseModel], part: int | str) -> type[BaseModel] | None:
    """The Config class of a field or of its values; None if there is none."""
    field = config.model_fields.get(str(part))
    held = (field.annotation, *get_args(field.annotation)) if field else ()
    return next((one for one in held if isinstance(one, type) and issubclass(one, BaseModel)), None)
