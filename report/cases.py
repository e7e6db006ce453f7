"""Figure 3: posts on which approaches disagree. Figure 4: what each approach corrects and breaks against bert-crf."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from report.layout import Column, Number, Row, Table, entity_text, mean, span_text
from report.pages import redacted
from report.posts import id_digest
from report.results import Published
from report.runs import TEXT_ONLY, RunSet
from schema.prediction import Prediction
from schema.text import safe_text

N_LISTED = 20_000  # rows of the list
KINDS = ("corrected", "broken")
Case = Mapping[str, Prediction]  # predictions for one post, by approach


def choose(runs: RunSet, dataset: str, n_cases: int) -> list[Case]:
    """Posts on which the runs of the first seed disagree, with the predictions of every approach.

    Half of them are posts where FMIT is correct and bert-crf is not, half the reverse; if one half has too few, the
    other half or posts on which other approaches differ. The order follows digests of ids, so none is hand-picked.
    """
    seed = next(iter(runs.seeds), 0)
    first = {name: seeds[seed] for name, seeds in runs.by_approach(dataset).items() if seed in seeds}
    by_id = {name: {prediction.post.id: prediction for prediction in first[name]} for name in first}
    if len(by_id) < 2:
        return []
    better: list[str] = []  # FMIT is correct, bert-crf is not
    worse: list[str] = []  # the reverse
    other: list[str] = []
    for id_ in sorted(next(iter(by_id.values())), key=id_digest):
        case = {name: predictions[id_] for name, predictions in by_id.items()}
        gold = set(next(iter(case.values())).gold or ())
        correct = {name: set(prediction.predicted) == gold for name, prediction in case.items()}
        if gold and len(set(correct.values())) == 2:
            sides = correct.get("fmit"), correct.get(TEXT_ONLY)
            (better if sides == (True, False) else worse if sides == (False, True) else other).append(id_)
    n_better = min(len(better), max(n_cases - n_cases // 2, n_cases - len(worse)))
    chosen = [*better[:n_better], *worse[: n_cases - n_better]]
    chosen += other[: n_cases - len(chosen)]
    return [{name: predictions[id_] for name, predictions in by_id.items()} for id_ in chosen]


def figure3(cases: Sequence[Case], paper: Published, dataset: str, *, redact: bool = False) -> list[Table]:
    """A table for each case, with a row for each approach: `Ada Lovelace PER (0.93)`, with a cross if it is wrong."""
    tables = []
    for number, case in enumerate(cases, 1):
        post, gold = next((prediction.post, prediction.gold or ()) for prediction in case.values())
        words = redacted(post.words) if redact else post.words
        rows = [Row("gold", (", ".join(entity_text(words, entity) for entity in gold),))]
        for name, prediction in case.items():
            texts = []
            for predicted in prediction.entities:
                confidence = "" if predicted.confidence is None else f" ({predicted.confidence:.2f})"
                cross = "" if predicted.entity in gold else " ✗"
                texts.append(f"{entity_text(words, predicted.entity)}{confidence}{cross}")
            rows.append(Row(paper.name(name), (", ".join(texts) or "nothing",)))
        title = f"Figure 3, {dataset} {number}: {safe_text(' '.join(words))}"
        tables.append(Table(f"figure3-{dataset}-{number}", title, [Column("entities (confidence)")], rows))
    return tables


class Change(NamedTuple):
    """A gold entity that only one of two runs finds; `before` and `after` are the predictions that overlap it."""

    approach: str
    seed: int
    kind: str  # "corrected" or "broken"
    post: str
    text: str
    type: str
    before: str
    after: str


def find_changes(
    approach: str, seed: int, before: Sequence[Prediction], after: Sequence[Prediction], *, redact: bool = False
) -> list[Change]:
    """What an approach's run (`after`) changes relative to bert-crf's on the same posts, in their order."""
    changes = []
    for old, new in zip(before, after, strict=True):
        words = redacted(old.post.words) if redact else old.post.words
        for gold in sorted(set(old.gold or ()) & (set(old.predicted) ^ set(new.predicted))):
            sides = [[entity for entity in each.predicted if entity.span.overlaps(gold.span)] for each in (old, new)]
            texts = ["; ".join(entity_text(words, entity) for entity in side) for side in sides]
            kind, text = "corrected" if gold in new.predicted else "broken", safe_text(span_text(words, gold.span))
            changes.append(Change(approach, seed, kind, old.post.id, text, gold.type, *texts))
    return changes


def figure4(
    runs: RunSet, paper: Published, dataset: str, *, redact: bool = False
) -> tuple[Table, dict[str, list[float]], list[Change]]:
    """The table of each approach's changes (means over the seeds that bert-crf has too), its bars, and the changes."""
    approaches = runs.by_approach(dataset)
    baselines = approaches.pop(TEXT_ONLY, {})
    rows: list[Row] = []
    bars: dict[str, list[float]] = {}
    changes: list[Change] = []
    for name, seeds in approaches.items():
        common = {seed: after for seed, after in seeds.items() if seed in baselines}
        per_seed = [find_changes(name, seed, baselines[seed], after, redact=redact) for seed, after in common.items()]
        if per_seed:
            counts = [Counter(change.kind for change in entries) for entries in per_seed]
            corrected, broken = ([count[kind] for count in counts] for kind in KINDS)
            bars[paper.name(name)] = [round(statistics.mean(numbers), 1) for numbers in (corrected, broken)]
            net = Number(statistics.mean(corrected) - statistics.mean(broken), digits=1)
            rows.append(Row(paper.name(name), (mean(corrected, 1), mean(broken, 1), net)))
            changes += chain(*per_seed)
    columns = (Column(f"{TEXT_ONLY} wrong, corrected"), Column(f"{TEXT_ONLY} correct, broken"), Column("net"))
    n_gold = sum(len(prediction.gold or ()) for prediction in next(iter(baselines.values()), ()))
    note = f"Of {n_gold} gold entities in the {runs.split(dataset)} split; mean over seeds, same seed of {TEXT_ONLY}."
    title = f"Figure 4: entities against {TEXT_ONLY}, {dataset}"
    return Table(f"figure4-{dataset}", title, columns, rows, [note]), bars, changes
