"""Tables that break down the scores: F1 by kind of entity and post, calibration, and grounding quality."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from report.errors import outcomes
from report.grounding import SCORES, GoldBoxes, score
from report.layout import Cell, Column, Number, Row, Table, mean, span_text
from report.results import Published
from report.runs import RunSet
from schema.labels import entities
from schema.prediction import Prediction
from schema.records import Entity, Post

N_BINS = 10
LENGTHS = ((10, "1-10 words"), (20, "11-20 words"), (None, "over 20 words"))
CLASSES = (
    ("seen", "entity"), ("unseen", "entity"), *((name, "post") for _, name in LENGTHS),
    ("with an image", "post"), ("without an image", "post"),
)  # fmt: skip


class Bin(NamedTuple):
    """Predictions with a confidence in `[low, high)` (the last bin includes 1); means are 0 if there are none."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def reliability(judged: Sequence[tuple[float, bool]]) -> list[Bin]:
    """Bins of equal width over (confidence in 0..1, whether words and type are correct)."""
    bins = []
    for at in range(N_BINS):
        pairs = [pair for pair in judged if min(int(pair[0] * N_BINS), N_BINS - 1) == at]
        confidence, accuracy = (sum(pair[side] for pair in pairs) / max(1, len(pairs)) for side in (0, 1))
        bins.append(Bin(at / N_BINS, (at + 1) / N_BINS, len(pairs), confidence, accuracy))
    return bins


def expected_error(bins: Sequence[Bin]) -> float | None:
    """ECE (Guo et al. 2017): the mean of |accuracy - confidence| over bins, weighted by counts; None without any."""
    total = sum(each.n for each in bins)
    return sum(each.n * abs(each.accuracy - each.confidence) for each in bins) / total if total else None


def judged(predictions: Iterable[Prediction]) -> Iterator[tuple[float, bool]]:
    """(confidence, whether words and type are correct) of every predicted entity that has a confidence."""
    for prediction in predictions:
        for outcome in outcomes(prediction.gold or (), prediction.predicted):
            confidence = None if outcome.predicted is None else prediction.entities[outcome.predicted].confidence
            if confidence is not None:
                yield min(1.0, max(0.0, confidence)), outcome.kind == "correct"


def known_entities(posts: Iterable[Post]) -> frozenset[str]:
    """Case-folded texts of the entities in the training posts."""
    train = [(post.words, entities(post.tags or ())) for post in posts if post.split == "train"]
    return frozenset(span_text(words, entity.span).casefold() for words, found in train for entity in found)


def classes(post: Post, entity: Entity, known: frozenset[str]) -> Iterator[str]:
    """The classes of an entity: seen (its text is one of `known`, of any type) or unseen, one length, image or not."""
    yield "seen" if span_text(post.words, entity.span).casefold() in known else "unseen"
    yield next(name for high, name in LENGTHS if high is None or len(post.words) <= high)
    yield "with an image" if any(image.ok for image in post.images) else "without an image"


def f1_by_class(predictions: Iterable[Prediction], known: frozenset[str]) -> tuple[dict[str, float], Counter[str]]:
    """Strict F1 of each class, which contains gold and predicted entities, and its number of gold entities."""
    n_gold, n_predicted, n_correct = Counter[str](), Counter[str](), Counter[str]()
    for prediction in predictions:
        gold, predicted = set(prediction.gold or ()), set(prediction.predicted)
        for members, count in ((gold, n_gold), (predicted, n_predicted), (gold & predicted, n_correct)):
            count.update(name for entity in members for name in classes(prediction.post, entity, known))
    return {name: 2 * n_correct[name] / n for name, n in (n_gold + n_predicted).items()}, n_gold


def breakdown(runs: RunSet, paper: Published, dataset: str) -> Table:
    """F1 of each approach by class, mean over seeds; the first row counts gold entities."""
    known = known_entities(runs.table(dataset).posts)
    rows: list[Row] = []
    for approach, seeds in runs.by_approach(dataset).items():
        scores = [f1_by_class(predictions, known) for predictions in seeds.values()]
        if not rows:
            rows.append(Row("gold entities", tuple(Number(scores[0][1][name], digits=0) for name, _ in CLASSES)))
        cells = (mean([100 * f1[name] for f1, _ in scores if name in f1]) for name, _ in CLASSES)
        rows.append(Row(paper.name(approach), list(cells)))
    columns = tuple(Column(name, group) for name, group in CLASSES)
    note = "Strict F1, percent, mean over seeds. Seen: the text is that of an entity in the training posts."
    title = f"F1 by kind of entity and post, {dataset}, {runs.split(dataset)} split"
    return Table(f"breakdown-{dataset}", title, columns, rows, [note])


def calibration(runs: RunSet, paper: Published, dataset: str) -> tuple[Table, list[tuple[str, list[Bin]]]]:
    """Expected calibration error of each approach over all seeds, and the bins of its reliability plot."""
    rows: list[Row] = []
    plots: list[tuple[str, list[Bin]]] = []
    for approach, seeds in runs.by_approach(dataset).items():
        pairs = [pair for predictions in seeds.values() for pair in judged(predictions)]
        bins, n = reliability(pairs), Number(len(pairs), digits=0)
        cells: tuple[Cell, ...] = (None, None, None, n)
        if (error := expected_error(bins)) is not None:
            confidence, accuracy = (statistics.mean(pair[side] for pair in pairs) for side in (0, 1))
            cells = Number(error, digits=3), Number(confidence, digits=3), Number(100 * accuracy, digits=1), n
            plots.append((paper.name(approach), bins))
        rows.append(Row(paper.name(approach), cells))
    columns = (Column("ECE"), Column("mean confidence"), Column("correct, %"), Column("predictions"))
    note = "Predicted entities of all seeds, ten bins; ECE is the mean difference between confidence and accuracy."
    title = f"Calibration, {dataset}, {runs.split(dataset)} split"
    return Table(f"calibration-{dataset}", title, columns, rows, [note]), plots


def grounding_quality(
    runs: RunSet, paper: Published, dataset: str, gold_boxes: Callable[[list[Prediction]], GoldBoxes]
) -> Table:
    """Scores of entities together with their boxes, for approaches whose predictions have phrase objects."""
    rows = []
    for approach, seeds in runs.by_approach(dataset).items():
        first = next(iter(seeds.values()))
        if any(region.source == "phrase" for prediction in first for region in prediction.objects):
            scores = [score(predictions, gold_boxes(predictions)) for predictions in seeds.values()]
            cells = tuple(mean([100 * values[name].f1 for values in scores]) for name in SCORES)
            rows.append(Row(paper.name(approach), cells))
    notes = (
        "MNER: words and type are correct; EEG: words and box (IoU >= 0.5); GMNER: all three. Mean over seeds.",
        "A box is the grounder's choice for the noun phrase; it does not show that the model used it.",
    )
    title = f"Grounding quality, {dataset}, {runs.split(dataset)} split"
    return Table(f"grounding-{dataset}", title, tuple(Column(name, "F1") for name in SCORES), rows, notes)
