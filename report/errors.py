"""The outcome of each entity (correct, wrong type, missed, ...), and its class in nervaluate's four schemes.

Predictions are paired in order: each with the gold entity of the same words, else with the first unpaired one that it
overlaps. Gold entities that stay unpaired are missed. nervaluate's strict, exact and partial schemes pair the same way;
its ent_type scheme differs only where a prediction overlaps several gold entities.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from cache import atomic
from report.layout import csv_text, span_text
from report.pages import redacted
from report.runs import read_run
from schema.prediction import Prediction
from schema.records import Entity, Span
from schema.text import safe_text

Entities = Sequence[Entity]
Kind = Literal["correct", "type", "boundary", "both", "missed", "spurious"]
SCHEMES = ("strict", "exact", "partial", "ent_type")
COLUMNS = (
    "split", "post", "kind", "gold_type", "gold_start", "gold_end", "gold_text",
    "predicted_type", "predicted_start", "predicted_end", "predicted_text", "confidence",
)  # fmt: skip


class KindText(NamedTuple):
    """How a kind of outcome is shown; `classes` are nervaluate's under each of SCHEMES, separated by blanks."""

    title: str
    meaning: str
    classes: str


KINDS: dict[Kind, KindText] = {
    "correct": KindText("Correct", "the same words and type", "correct correct correct correct"),
    "type": KindText("Wrong type", "the same words, other type", "incorrect correct correct incorrect"),
    "boundary": KindText("Wrong words", "overlapping words, same type", "incorrect incorrect partial correct"),
    "both": KindText("Wrong words and type", "overlapping words, other type", "incorrect incorrect partial incorrect"),
    "missed": KindText("Missed", "a gold entity without a prediction", "missed missed missed missed"),
    "spurious": KindText("Spurious", "a prediction without a gold entity", "spurious spurious spurious spurious"),
}


class Outcome(NamedTuple):
    """A kind, and the indices of the gold and the predicted entity; None if there is none."""

    kind: Kind
    gold: int | None
    predicted: int | None


def outcomes(gold: Entities, predicted: Entities) -> list[Outcome]:
    """Outcomes ordered by their first words; each gold and each predicted entity is in exactly one of them."""
    unpaired = dict(enumerate(gold))
    paired: list[tuple[Span, Outcome]] = []
    for index, entity in enumerate(predicted):
        same = [at for at, other in unpaired.items() if other.span == entity.span]
        overlapping = [at for at, other in unpaired.items() if other.span.overlaps(entity.span)]
        match = next(iter(same or overlapping), None)
        kind: Kind = "spurious"
        if match is not None:
            same_type = unpaired.pop(match).type == entity.type
            kind = ("correct" if same_type else "type") if same else ("boundary" if same_type else "both")
        paired.append((entity.span if match is None else gold[match].span, Outcome(kind, match, index)))
    paired += [(entity.span, Outcome("missed", at, None)) for at, entity in unpaired.items()]
    return [outcome for _, outcome in sorted(paired, key=lambda pair: pair[0])]


def count(posts: Iterable[tuple[Entities, Entities]]) -> tuple[Counter[tuple[str, Kind]], Counter[tuple[str, str]]]:
    """Outcomes of posts by (gold type, or predicted type if there is none; kind), and by both types, "" for none."""
    kinds: Counter[tuple[str, Kind]] = Counter()
    confusion: Counter[tuple[str, str]] = Counter()
    for gold, predicted in posts:
        for outcome in outcomes(gold, predicted):
            gold_type = "" if outcome.gold is None else gold[outcome.gold].type
            predicted_type = "" if outcome.predicted is None else predicted[outcome.predicted].type
            kinds[gold_type or predicted_type, outcome.kind] += 1
            confusion[gold_type, predicted_type] += 1
    return kinds, confusion


def entity_rows(predictions: Iterable[Prediction], *, redact: bool = False) -> Iterator[dict[str, object]]:
    """A row with `COLUMNS` for each outcome of each post that has gold labels; a value that does not exist is None."""
    for prediction in predictions:
        post, gold = prediction.post, prediction.gold or ()
        words = [safe_text(word, None) for word in (redacted(post.words) if redact else post.words)]
        for outcome in outcomes(gold, prediction.predicted) if prediction.gold is not None else ():
            row: dict[str, object] = dict.fromkeys(COLUMNS)
            row |= {"split": post.split, "post": safe_text(post.id), "kind": outcome.kind}
            if outcome.predicted is not None:
                row["confidence"] = prediction.entities[outcome.predicted].confidence
            sides = (("gold", gold, outcome.gold), ("predicted", prediction.predicted, outcome.predicted))
            for side, entity in [(name, each[index]) for name, each, index in sides if index is not None]:
                row[f"{side}_type"], row[f"{side}_text"] = safe_text(entity.type), span_text(words, entity.span)
                row[f"{side}_start"], row[f"{side}_end"] = entity.span.start, entity.span.end
            yield row


def export(folder: Path, out: Path, *, redact: bool = False) -> int:
    """Write the outcomes of a run as JSON if `out` ends in `.json`, else as CSV; returns the number of rows."""
    run = read_run(folder)
    rows = [row for predictions in run.predictions.values() for row in entity_rows(predictions, redact=redact)]
    if out.suffix == ".json":
        atomic.write_json(out, {"schema_version": 1, "run": run.name, "synthetic": run.synthetic, "outcomes": rows})
    else:
        atomic.write_text(out, csv_text(COLUMNS, rows))
    return len(rows)
