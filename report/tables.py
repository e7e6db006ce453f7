"""Tables of a run, and CSV or JSON files of its entities that are safe to open in a spreadsheet."""

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
from report.runs import read_run
from schema.prediction import Prediction
from schema.records import Entity
from schema.text import guarded, safe_text

SCHEMA_VERSION = 1
COLUMNS = (
    "split", "post", "kind", "gold_type", "gold_start", "gold_end", "gold_text",
    "predicted_type", "predicted_start", "predicted_end", "predicted_text", "confidence",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """Strict and lenient scores of a type, or of all types together (""); `lenient` None: the run has none."""

    type: str
    strict: Mapping[str, float]
    lenient: Mapping[str, float] | None


def score_rows(metrics: Mapping[str, Any], order: Sequence[str] = ()) -> list[ScoreRow]:
    """Rows of one split: all types together first, then the types of `order`, then any others."""
    strict, lenient = metrics["strict"], metrics.get("lenient") or {}
    rows = [ScoreRow("", strict["micro"], lenient.get("micro"))]
    names = [name for name in dict.fromkeys([*order, *strict["types"]]) if name in strict["types"]]
    return rows + [ScoreRow(name, strict["types"][name], (lenient.get("types") or {}).get(name)) for name in names]


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """A CSV file with a header, `\\n` line ends and quoted text; no cell is a formula."""
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([guarded(row.get(name)) for name in columns] for row in rows)
    return file.getvalue()


def entity_rows(predictions: Iterable[Prediction], *, redact: bool = False) -> Iterator[dict[str, object]]:
    """One row with `COLUMNS` for each outcome of each post that has gold labels."""
    for prediction in predictions:
        post, gold = prediction.post, prediction.gold or ()
        words = [safe_text(word, None) for word in (redacted(post.words) if redact else post.words)]
        for outcome in outcomes(gold, prediction.predicted) if prediction.gold is not None else ():
            predicted = None if outcome.predicted is None else prediction.entities[outcome.predicted]
            yield {
                "split": post.split,
                "post": safe_text(post.id),
                "kind": outcome.kind,
                **_cells("gold", None if outcome.gold is None else gold[outcome.gold], words),
                **_cells("predicted", predicted.entity if predicted else None, words),
                "confidence": predicted.confidence if predicted else None,
            }


def export(folder: Path, out: Path, *, redact: bool = False) -> int:
    """Write the outcomes of a run as JSON if `out` ends in `.json`, else as CSV; returns the number of rows."""
    run = read_run(folder)
    rows = [row for predictions in run.predictions.values() for row in entity_rows(predictions, redact=redact)]
    if out.suffix == ".json":
        note = {"schema_version": SCHEMA_VERSION, "run": run.name, "synthetic": run.synthetic}
        atomic.write_json(out, {**note, "outcomes": rows})
    else:
        atomic.write_text(out, csv_text(COLUMNS, rows))
    return len(rows)


def _cells(side: str, entity: Entity | None, words: Sequence[str]) -> dict[str, object]:
    names = [f"{side}_{name}" for name in ("type", "start", "end", "text")]
    if entity is None:
        return dict.fromkeys(names)
    start, end = entity.span.start, entity.span.end
    return dict(zip(names, (safe_text(entity.type), start, end, " ".join(words[start:end])), strict=True))
