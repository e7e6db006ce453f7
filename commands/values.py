"""Values of options: datasets, runs and approaches that a shell offers, as params.yaml and runs/ have them; numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Named(click.ParamType):
    """A name that params.yaml holds: anything is taken, those that are there are offered."""

    name = "name"

    def __init__(self, key: str) -> None:
        self.key = key

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = settings(ctx).get(self.key)
        names = [str(name) for name in found] if isinstance(found, (dict, list)) else []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class RunFolder(click.Path):
    """A run's folder: those below runs/ are offered, and any folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        runs = sorted(path.parent.parent for path in where(ctx).parent.glob("runs/*/model/config.json"))
        found = [CompletionItem(str(run)) for run in runs if str(run).startswith(incomplete)]
        return found or super().shell_complete(ctx, param, incomplete)


class TableFile(click.Path):
    """A file whose name says what is written into it."""

    SUFFIXES = (".csv", ".json")

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        if Path(str(path)).suffix not in self.SUFFIXES:
            self.fail(f"{str(path)!r} ends in none of {', '.join(self.SUFFIXES)}", param, ctx)
        return path


class Bytes(click.ParamType):
    """A number of bytes: 20000000, 500M, 2.5G (powers of ten)."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", str(value).strip().upper())
        if not match:
            self.fail(f"{value!r} is no number of bytes such as 500M or 2.5G", param, ctx)
        return round(float(match[1]) * UNITS[match[2]])


class Condition(click.ParamType):
    """`field=value` of a shard's producer."""

    name = "field=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        field, equals, wanted = str(value).partition("=")
        if not (field and equals and wanted):
            self.fail(f"{value!r} is no condition such as producer=toy-resnet", param, ctx)
        return field, wanted


DATASET = Named("data")
VALUES: Mapping[str, click.ParamType] = {  # a parameter's name -> its values, unless it has a type of its own
    "dataset": DATASET,
    "datasets": DATASET,
    "approach": Named("approaches"),
}


def finite(ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Callback of an option with a number: nothing can be compared with nan, which Python reads as a number."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no finite number.")
    return value


def where(ctx: click.Context) -> Path:
    """The params file that the line so far names."""
    return ctx.params.get("params_path") or Path("params.yaml")


def settings(ctx: click.Context) -> dict[str, Any]:
    """The parameters as they are written; nothing where they cannot be read: a shell wants no message now."""
    import yaml

    try:
        values = yaml.safe_load(where(ctx).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}
