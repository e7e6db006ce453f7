"""Configuration: frozen values from params.yaml, and presets by name. Errors name the nearest known key."""

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
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, validate_default=True)

    @classmethod
    def from_section(cls, section: Mapping[str, Any], where: str, presets: Mapping[str, Self]) -> Self:
        """The configuration of a section such as `{preset: smoke}`; `model_fields_set` has only its own keys."""
        values = dict(section)
        name, base = values.pop("preset", None), {}
        if isinstance(name, str) and name in presets:
            base = presets[name].model_dump()
        elif name is not None:
            raise ConfigError(f"unknown preset {name!r}", where=where, todo=f"use one of {', '.join(sorted(presets))}")
        return cls.model_construct(set(values), **dict(cls.checked({**base, **values}, where, "preset")))

    @classmethod
    def checked(cls, values: Mapping[str, Any], where: str, *more: str, file: str = FILE) -> Self:
        """Validated values; raises ConfigError with a line per problem. `more`: other keys to suggest."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError("\n".join(f"{file} {line}" for line in _explain(error, where, cls, *more))) from None


def _explain(error: ValidationError, where: str, config: type[BaseModel], *more: str) -> list[str]:
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
    if isinstance(value, bool):
        return "; YAML reads yes, no, on and off as true or false: write the word in quotes, such as 'NO'"
    if isinstance(value, int | float | datetime.date):
        kind = "date" if isinstance(value, datetime.date) else "number"
        return f"; YAML reads it as a {kind}: write '{value}' in quotes"
    return ""


def _instead(location: tuple[int | str, ...], config: type[BaseModel], more: tuple[str, ...]) -> str:
    """The known key nearest to an unknown one, or all known keys if none is near."""
    for part in location[:-1]:  # into the Config class of a field or of its values, if it has one
        field = config.model_fields.get(str(part))
        types = (field.annotation, *get_args(field.annotation)) if field else ()
        config = next((one for one in types if isinstance(one, type) and issubclass(one, BaseModel)), config)
    known = [*config.model_fields, *(more if len(location) == 1 else ())]
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=NEAR)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
