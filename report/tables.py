"""Tables of a run, and files of them that a spreadsheet opens without running anything."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache import atomic
from report.errors import outcomes
from report.pages import redacted
from report.runs import Line, Run, read_run
from schema.records import Entity
from schema.text import guarded, safe_text

SCHEMA_VERSION = 1
COLUMNS = (
    "split", "post", "kind", "gold_type", "gold_start", "gold_end", "gold_text",
    "predicted_type", "predicted_start", "predicted_end", "predicted_text", "confidence",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """Scores of a type (or of all: "") under the strict and the lenient reading; None: that reading is not given."""

    type: str
    strict: Mapping[str, float]
    lenient: Mapping[str, float] | None


def score_rows(metrics: Mapping[str, Any], order: Sequence[str] = ()) -> list[ScoreRow]:
    """Rows of one split: all types together first, then each type, those of `order` before others."""
    strict, lenient = metrics["strict"], metrics.get("lenient") or {}
    rows = [ScoreRow("", strict["micro"], lenient.get("micro"))]
    names = [name for name in dict.fromkeys([*order, *strict["types"]]) if name in strict["types"]]
    return rows + [ScoreRow(name, strict["types"][name], (lenient.get("types") or {}).get(name)) for name in names]


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """A CSV file with a head line, `\\n` line ends, text quoted; every cell guarded."""
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([guarded(row.get(name)) for name in columns] for row in rows)
    return file.getvalue()


def entity_rows(lines: Iterable[Line], *, redact: bool = False) -> Iterator[dict[str, object]]:
    """One row for each outcome of each post with gold labels, under `COLUMNS`."""
    for line in lines:
        words = [safe_text(word, None) for word in (redacted(line.words) if redact else line.words)]
        for outcome in outcomes(line.gold or (), line.entities) if line.gold is not None else ():
            gold = None if outcome.gold is None else (line.gold or ())[outcome.gold]
            given = None if outcome.predicted is None else line.predicted[outcome.predicted]
            yield {
                "split": line.split,
                "post": safe_text(line.id),
                "kind": outcome.kind,
                **_cells("gold", gold, words),
                **_cells("predicted", given.entity if given else None, words),
                "confidence": given.confidence if given else None,
            }


def export(run: Path, out: Path, *, redact: bool = False) -> int:
    """Write the outcomes of a run to `out`, as JSON where it ends in `.json`, else as CSV; returns the rows."""
    return write_rows(read_run(run), out, redact=redact)


def write_rows(run: Run, out: Path, *, redact: bool = False) -> int:
    """`export` of a run that is already read."""
    rows = [row for lines in run.lines.values() for row in entity_rows(lines, redact=redact)]
    if out.suffix == ".json":
        atomic.write_json(
            out, {"schema_version": SCHEMA_VERSION, "run": run.name, "synthetic": run.synthetic, "outcomes": rows}
        )
    else:
        atomic.write_text(out, csv_text(COLUMNS, rows))
    return len(rows)


def _cells(side: str, entity: Entity | None, words: Sequence[str]) -> dict[str, object]:
    if entity is None:
        return {f"{side}_{name}": None for name in ("type", "start", "end", "text")}
    span = entity.span
    text = " ".join(words[span.start : span.end])
    values = {"type": safe_text(entity.type), "start": span.start, "end": span.end, "text": text}
    return {f"{side}_{name}": value for name, value in values.items()}
