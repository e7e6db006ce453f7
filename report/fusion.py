"""What `bench.fusion` measured, read from the file that it wrote: Table 3's own figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache.runs import read_object
from schema.errors import RunError

FIGURES = ("seconds", "speedup", "parameters")
TODO = "remove the file: `fmit tables --step measure` measures again"


def read_fusion(path: Path) -> dict[str, Any] | None:
    """`rows` and `notes`, what Table 3 shows of them checked; None where it was not measured. Raises RunError."""
    if not path.exists():
        return None
    values = read_object(path, TODO)
    rows, notes = values.get("rows"), values.get("notes", [])
    if not isinstance(rows, list) or not isinstance(notes, list) or not all(isinstance(one, str) for one in notes):
        raise RunError("no figures of bench.fusion", where=str(path), found=", ".join(values) or "{}", todo=TODO)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or not isinstance(row.get("approach"), str):
            raise RunError("a row names its approach", where=f"{path} rows.{number}", found=repr(row), todo=TODO)
        padded = {} if row.get("padded_speedup") is None else {"padded_speedup": row["padded_speedup"]}
        for name, value in {**{name: row.get(name) for name in FIGURES}, **padded}.items():
            if type(value) not in (int, float) or not math.isfinite(value):
                where = f"{path} rows.{number}.{name}"
                raise RunError("no finite number", where=where, found=repr(value), todo=TODO)
    return values
