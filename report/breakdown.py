"""F1 by what a post or an entity is like: seen in training or not, length of the post, whether a picture is there.

Do confidences keep their word? Bins of a reliability plot and the expected calibration error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from report.errors import outcomes
from report.field import Field
from report.layout import Cell, Column, Number, Row, Table, mean
from report.results import Published
from report.runs import Line
from schema.records import Entity

N_BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions whose confidence lies in `[low, high)`, the last bin closed; means are 0 where there are none."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def reliability(judged: Sequence[tuple[float, bool]], n_bins: int = N_BINS) -> list[Bin]:
    """Bins of equal width over (confidence in 0..1, whether words and type are right)."""
    members: list[list[tuple[float, bool]]] = [[] for _ in range(n_bins)]
    for confidence, is_right in judged:
        members[min(int(confidence * n_bins), n_bins - 1)].append((confidence, is_right))
    return [_bin(index, n_bins, found) for index, found in enumerate(members)]


def expected_error(bins: Sequence[Bin]) -> float | None:
    """ECE: the mean of |accuracy - confidence| over bins, weighted by their counts (Naeini et al. 2015, Guo et al.
    2017); None without predictions."""
    total = sum(found.n for found in bins)
    if not total:
        return None
    return sum(found.n * abs(found.accuracy - found.confidence) for found in bins) / total


def judged(lines: Iterable[Line]) -> Iterator[tuple[float, bool]]:
    """(confidence, whether words and type are right) of every predicted entity that has a confidence."""
    for line in lines:
        for found in outcomes(line.gold or (), line.entities):
            confidence = None if found.predicted is None else line.predicted[found.predicted].confidence
            if confidence is not None:
                yield min(1.0, max(0.0, confidence)), found.kind == "correct"


def _bin(index: int, n_bins: int, found: Sequence[tuple[float, bool]]) -> Bin:
    n = len(found)
    confidence = sum(value for value, _ in found) / n if n else 0.0
    accuracy = sum(is_right for _, is_right in found) / n if n else 0.0
    return Bin(index / n_bins, (index + 1) / n_bins, n, confidence, accuracy)


LENGTHS = ((1, 10, "1-10 words"), (11, 20, "11-20 words"), (21, None, "over 20 words"))
CLASSES = (
    ("seen", "entity"), ("unseen", "entity"), *((name, "post") for *_, name in LENGTHS),
    ("with a picture", "post"), ("without one", "post"),
)  # fmt: skip
Names = Callable[[Line, Entity], Iterable[str]]


def classes(known: frozenset[str]) -> Names:
    """Which classes an entity of a post belongs to: one of seen and unseen, one length, one of the pictures.

    Seen: its text is that of some entity of the training posts, of any type, without regard to case.
    """

    def of(line: Line, entity: Entity) -> Iterable[str]:
        text = " ".join(line.words[entity.span.start : entity.span.end]).casefold()
        yield "seen" if text in known else "unseen"
        n_words = len(line.words)
        yield next(name for low, high, name in LENGTHS if low <= n_words and (high is None or n_words <= high))
        yield "with a picture" if any(picture.state == "ok" for picture in line.pictures) else "without one"

    return of


def f1_by_class(lines: Iterable[Line], of: Names) -> tuple[dict[str, float], Counter[str]]:
    """Strict F1 of each class, predicted entities standing in a class as gold ones do, and gold entities of each."""
    gold: Counter[str] = Counter()
    either: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for line in lines:
        wanted, given = set(line.gold or ()), set(line.entities)
        for some, counts in ((wanted, (gold, either)), (given, (either,)), (wanted & given, (right,))):
            for entity in some:
                names = list(of(line, entity))
                for count in counts:
                    count.update(names)
    return {name: 2 * right[name] / n for name, n in either.items() if n}, gold


def breakdown(field: Field, paper: Published, dataset: str) -> Table:
    """A row an approach, mean over seeds; the first row counts gold entities."""
    of = classes(field.known_entities(dataset))
    names = [name for name, _ in CLASSES]
    rows, counts = [], Counter[str]()
    for approach in field.present(dataset):
        found = [f1_by_class(field.lines(dataset, approach, seed), of) for seed in field.of(dataset, approach)]
        counts = found[0][1]
        cells = (mean([100 * f1[name] for f1, _ in found if name in f1]) for name in names)
        rows.append(Row(paper.name(approach), tuple(cells)))
    first = Row("gold entities", tuple(Number(counts[name], None, 0) for name in names))
    columns = tuple(Column(name, group) for name, group in CLASSES)
    notes = (
        "Strict F1, percent, mean over seeds. Seen: the text is that of an entity of the training posts, of any type.",
    )
    title = f"F1 by kind of entity and post, {dataset}, {field.split(dataset)} split"
    return Table(f"breakdown-{dataset}", title, columns, (first, *rows) if rows else (), notes)


def calibration(field: Field, paper: Published, dataset: str) -> tuple[Table, list[tuple[str, Sequence[Bin]]]]:
    """Expected calibration error of each approach, and the bins of its reliability plot, seeds together."""
    rows: list[Row] = []
    plots: list[tuple[str, Sequence[Bin]]] = []
    for approach in field.present(dataset):
        told = [pair for seed in field.of(dataset, approach) for pair in judged(field.lines(dataset, approach, seed))]
        bins = reliability(told)
        rows.append(Row(paper.name(approach), _calibrated(told, expected_error(bins))))
        if told:
            plots.append((paper.name(approach), bins))
    columns = (Column("ECE"), Column("mean confidence"), Column("right, %"), Column("predictions"))
    notes = ("Over predicted entities of all seeds, ten bins; ECE is the mean gap between confidence and accuracy.",)
    title = f"Calibration, {dataset}, {field.split(dataset)} split"
    return Table(f"calibration-{dataset}", title, columns, tuple(rows), notes), plots


def _calibrated(told: Sequence[tuple[float, bool]], ece: float | None) -> tuple[Cell, ...]:
    if ece is None:
        return None, None, None, Number(0, None, 0)
    n = len(told)
    confidence, right = sum(one for one, _ in told) / n, sum(is_right for _, is_right in told) / n
    return Number(ece, None, 3), Number(confidence, None, 3), Number(100 * right, None, 1), Number(n, None, 0)
