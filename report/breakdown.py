"""Tables that look inside the scores: F1 by kind of entity and post, calibration, and grounding quality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from report.errors import outcomes
from report.grounding import SCORES, GoldBoxes
from report.grounding import score as grounding_scores
from report.layout import Cell, Column, Number, Row, Table, mean
from report.results import Published
from report.run_set import RunSet
from schema.prediction import Prediction
from schema.records import Entity

N_BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions with a confidence in `[low, high)` (the last bin includes 1); means are 0 if there are none."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def reliability(judged: Sequence[tuple[float, bool]], n_bins: int = N_BINS) -> list[Bin]:
    """Bins of equal width over (confidence in 0..1, whether words and type are correct)."""
    members: list[list[tuple[float, bool]]] = [[] for _ in range(n_bins)]
    for confidence, is_correct in judged:
        members[min(int(confidence * n_bins), n_bins - 1)].append((confidence, is_correct))
    return [Bin(at / n_bins, (at + 1) / n_bins, len(some), *_means(some)) for at, some in enumerate(members)]


def expected_error(bins: Sequence[Bin]) -> float | None:
    """ECE: the mean of |accuracy - confidence| over bins, weighted by their counts (Naeini et al. 2015, Guo et al.
    2017); None without predictions."""
    total = sum(one.n for one in bins)
    return sum(one.n * abs(one.accuracy - one.confidence) for one in bins) / total if total else None


def judged(lines: Iterable[Prediction]) -> Iterator[tuple[float, bool]]:
    """(confidence, whether words and type are correct) of every predicted entity that has a confidence."""
    for line in lines:
        for outcome in outcomes(line.gold or (), line.predicted):
            confidence = None if outcome.predicted is None else line.entities[outcome.predicted].confidence
            if confidence is not None:
                yield min(1.0, max(0.0, confidence)), outcome.kind == "correct"


def _means(judged: Sequence[tuple[float, bool]]) -> tuple[float, float]:
    """Mean confidence and accuracy; 0 without predictions."""
    n = max(1, len(judged))
    return sum(confidence for confidence, _ in judged) / n, sum(is_correct for _, is_correct in judged) / n


LENGTHS = ((10, "1-10 words"), (20, "11-20 words"), (None, "over 20 words"))
CLASSES = (
    ("seen", "entity"), ("unseen", "entity"), *((name, "post") for _, name in LENGTHS),
    ("with an image", "post"), ("without an image", "post"),
)  # fmt: skip
Classify = Callable[[Prediction, Entity], Iterable[str]]


def classes(known: frozenset[str]) -> Classify:
    """A function that names the classes of an entity: seen or unseen, one length, with or without an image.

    Seen: its text, case-folded, is that of an entity in the training posts, of any type.
    """

    def of(line: Prediction, entity: Entity) -> Iterable[str]:
        text = " ".join(line.post.words[entity.span.start : entity.span.end]).casefold()
        yield "seen" if text in known else "unseen"
        yield next(name for high, name in LENGTHS if high is None or len(line.post.words) <= high)
        yield "with an image" if any(image.ok for image in line.post.images) else "without an image"

    return of


def f1_by_class(lines: Iterable[Prediction], of: Classify) -> tuple[dict[str, float], Counter[str]]:
    """Strict F1 of each class (predicted entities have classes as gold ones do), and gold entities of each."""
    gold: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    correct: Counter[str] = Counter()
    for line in lines:
        wanted, given = set(line.gold or ()), set(line.predicted)
        for some, count in ((wanted, gold), (given, predicted), (wanted & given, correct)):
            count.update(name for entity in some for name in of(line, entity))
    total = gold + predicted
    return {name: 2 * correct[name] / n for name, n in total.items()}, gold


def breakdown(runs: RunSet, paper: Published, dataset: str) -> Table:
    """F1 of each approach by class, mean over seeds; the first row counts gold entities."""
    of = classes(runs.known_entities(dataset))
    names = [name for name, _ in CLASSES]
    rows, counts = [], Counter[str]()
    for approach in runs.present(dataset):
        scores = [f1_by_class(runs.lines(dataset, approach, seed), of) for seed in runs.of(dataset, approach)]
        counts = scores[0][1]
        cells = (mean([100 * f1[name] for f1, _ in scores if name in f1]) for name in names)
        rows.append(Row(paper.name(approach), tuple(cells)))
    first = Row("gold entities", tuple(Number(counts[name], None, 0) for name in names))
    columns = tuple(Column(name, group) for name, group in CLASSES)
    note = "Strict F1, percent, mean over seeds. Seen: the text is that of an entity in the training posts."
    title = f"F1 by kind of entity and post, {dataset}, {runs.split(dataset)} split"
    return Table(f"breakdown-{dataset}", title, columns, (first, *rows) if rows else (), (note,))


def calibration(runs: RunSet, paper: Published, dataset: str) -> tuple[Table, list[tuple[str, Sequence[Bin]]]]:
    """Expected calibration error of each approach over all seeds, and the bins of its reliability plot."""
    rows: list[Row] = []
    plots: list[tuple[str, Sequence[Bin]]] = []
    for approach in runs.present(dataset):
        pairs = [one for seed in runs.of(dataset, approach) for one in judged(runs.lines(dataset, approach, seed))]
        bins = reliability(pairs)
        rows.append(Row(paper.name(approach), _calibration_cells(pairs, expected_error(bins))))
        if pairs:
            plots.append((paper.name(approach), bins))
    columns = (Column("ECE"), Column("mean confidence"), Column("correct, %"), Column("predictions"))
    note = "Predicted entities of all seeds, ten bins; ECE is the mean difference between confidence and accuracy."
    title = f"Calibration, {dataset}, {runs.split(dataset)} split"
    return Table(f"calibration-{dataset}", title, columns, tuple(rows), (note,)), plots


def _calibration_cells(judged: Sequence[tuple[float, bool]], ece: float | None) -> tuple[Cell, ...]:
    if ece is None:
        return None, None, None, Number(0, None, 0)
    confidence, accuracy = _means(judged)
    n = Number(len(judged), None, 0)
    return Number(ece, None, 3), Number(confidence, None, 3), Number(100 * accuracy, None, 1), n


def grounding_quality(
    runs: RunSet, paper: Published, dataset: str, gold_boxes: Callable[[list[Prediction]], GoldBoxes]
) -> Table:
    """Scores of entities together with their boxes, for approaches whose predictions have phrase objects."""
    rows = []
    for approach in runs.present(dataset):
        lines = [runs.lines(dataset, approach, seed) for seed in runs.of(dataset, approach)]
        if any(region.source == "phrase" for line in lines[0] for region in line.objects):
            scores = [grounding_scores(some, gold_boxes(some)) for some in lines]
            cells = tuple(mean([100 * one[name].f1 for one in scores]) for name in SCORES)
            rows.append(Row(paper.name(approach), cells))
    notes = (
        "MNER: words and type are correct; EEG: words and box (IoU >= 0.5); GMNER: all three. Mean over seeds.",
        "A box is the grounder's choice for the noun phrase; it does not show that the model used it.",
    )
    title = f"Grounding quality, {dataset}, {runs.split(dataset)} split"
    return Table(f"grounding-{dataset}", title, tuple(Column(name, "F1") for name in SCORES), tuple(rows), notes)
