"""What the paper prints, read from `paper.yaml`, to stand beside our figures."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("paper.yaml")


@dataclass(frozen=True)
class Published:
    """Rows of each table by group, names of approaches, and the paper's own figures."""

    source: str
    types: tuple[str, ...]
    datasets: Mapping[str, str]
    names: Mapping[str, str]
    rows: Mapping[str, Mapping[str, tuple[str, ...]]]
    notes: Mapping[str, str]
    table1: Mapping[str, Mapping[str, Mapping[str, int]]]
    table3: Mapping[str, tuple[float, float]]
    scores: Mapping[str, Mapping[str, Mapping[str, tuple[float, ...]]]]  # of tables 2, 4 and 5

    def name(self, approach: str) -> str:
        """How tables call an approach."""
        return self.names.get(approach, approach)

    def approaches(self, *tables: str) -> list[str]:
        """Approaches of the rows of some tables, each once."""
        return list(
            dict.fromkeys(name for table in tables for some in self.rows[table].values() for name in some),
        )


@functools.cache
def published() -> Published:
    """The paper's figures."""
    raw: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    rows = {table: {name: tuple(some) for name, some in groups.items()} for table, groups in raw["rows"].items()}
    scores = {
        table: {
            data: {name: tuple(map(float, one)) for name, one in figures.items()}
            for data, figures in raw[table].items()
        }
        for table in ("table2", "table4", "table5")
    }
    table3 = {name: (float(speed), float(size)) for name, (speed, size) in raw["table3"].items()}
    return Published(
        raw["source"],
        tuple(raw["types"]),
        raw["datasets"],
        raw["names"],
        rows,
        raw["notes"],
        raw["table1"],
        table3,
        scores,
    )
