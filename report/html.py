"""The page of a run in one file: scores, learning curves, calibration, errors, and posts with their images."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from report.breakdown import expected_error, judged, reliability
from report.errors import CLASSES, KINDS, MEANINGS, SCHEMES, TITLES, Kind, count
from report.figures import bar, learning_curve, reliability_plot
from report.pages import safe_text, script_json, write_page
from report.posts import PostData, Selection, post_data, select
from report.runs import Run, label_words, read_run
from report.tables import ScoreRow, score_rows
from report.thumbnails import Loader

CAP = 2000  # posts with errors on a page: it opens within two seconds and stays below 20 MB
N_TYPES = 100  # types of a confusion table, which has their square of cells
N_FACTS = 300  # lines of the run's configuration
DEV_SCORES = {"dev_f1": "F1", "dev_precision": "precision", "dev_recall": "recall"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of a confusion table; `shade` 0 to 9 grows with its share of the row."""

    n: int
    shade: int
    is_same: bool


@dataclass(frozen=True)
class SplitSection:
    """The page's tables of one split; empty where the posts have no gold labels."""

    name: str
    n_posts: int
    scores: list[ScoreRow]
    kinds: Mapping[tuple[str, Kind], int]
    confusion: Mapping[tuple[str, str], int]
    confusion_rows: list[tuple[str, list[Cell]]]
    n_judged: int
    ece: float | None
    plot: Markup | None
    warning: str


def write(folder: Path, out: Path, *, load_image: Loader, redact: bool = False, cap: int = CAP) -> None:
    """Write the page of a run: one file of at most 20 MB that makes no network requests.

    `cap` limits the posts with errors; `redact` hides @names, links and images. Raises RunError if the folder is not an
    evaluated run.
    """
    run = read_run(folder)
    selection = select(run.predictions, cap)
    data = post_data(selection.predictions, label_words(run.config), load_image, types=run.types, redact=redact)
    note = run.config.get("data")
    note = note if isinstance(note, Mapping) else {}
    write_page(
        out,
        "report.html.jinja",
        ("cards.js", "report.js"),
        run=run,
        splits=[_section(run, name) for name in dict.fromkeys([*run.metrics, *run.predictions])],
        losses=learning_curve(run.curves, {"train_loss": "training loss"}, "loss"),
        curve=learning_curve(run.curves, DEV_SCORES, "dev score", _best_epoch(run.config)),
        score_names=list(DEV_SCORES.values()),
        facts=list(_facts(run.config))[:N_FACTS],
        kinds=[(kind, TITLES[kind], MEANINGS[kind], _classes(CLASSES[kind])) for kind in KINDS],
        types=run.types,
        remarks=list(_remarks(run, selection, data)),
        redact=redact,
        variant=str(note.get("variant") or ""),
        warning=str(note.get("warning") or ""),
        bar=bar,
        data=script_json(data.to_json()),
    )


def _section(run: Run, name: str) -> SplitSection:
    labelled = [one for one in run.predictions.get(name, []) if one.gold is not None]
    kinds, confusion = count((one.gold or (), one.predicted) for one in labelled)
    judgements = list(judged(labelled))
    bins = reliability(judgements)
    metrics = run.metrics.get(name)
    shown_types = run.types if len(run.types) <= N_TYPES else ()
    return SplitSection(
        name=name,
        n_posts=len(run.predictions[name]) if name in run.predictions else int((metrics or {}).get("n_posts", 0)),
        scores=score_rows(metrics, run.types) if metrics else [],
        kinds=kinds,
        confusion=confusion,
        confusion_rows=[(actual, _row(confusion, actual, (*run.types, ""))) for actual in shown_types],
        n_judged=len(judgements),
        ece=expected_error(bins),
        plot=reliability_plot(bins) if judgements else None,
        warning=_disagreement(metrics, kinds) if metrics and labelled else "",
    )


def _row(confusion: Mapping[tuple[str, str], int], actual: str, columns: Sequence[str]) -> list[Cell]:
    numbers = [(name, confusion[actual, name]) for name in columns]
    total = sum(n for _, n in numbers)
    return [Cell(n, math.ceil(9 * n / total) if n else 0, name == actual) for name, n in numbers]


def _disagreement(metrics: Mapping[str, Any], kinds: Mapping[tuple[str, Kind], int]) -> str:
    n_correct = sum(n for (_, kind), n in kinds.items() if kind == "correct")
    expected = metrics["strict"]["micro"]["n_correct"]
    if n_correct == expected:
        return ""
    return (
        f"The scores count {expected} correct entities, the predictions {n_correct}: "
        "one of the two files is out of date. Evaluate the run again."
    )


def _remarks(run: Run, selection: Selection, data: PostData) -> Iterator[str]:
    wrong = f"{selection.n_wrong_shown:,} of {selection.n_wrong:,} posts with errors"
    other = f"{selection.n_other_shown:,} of {selection.n_other:,} without"
    yield f"{wrong} and {other}{' (all splits)' if len(run.predictions) > 1 else ''}"
    if data.n_left_out:
        yield f"{data.n_left_out:,} posts left out to limit the page's size"
    if n_images := data.thumbnails.n_left_out:
        yield f"{n_images:,} images left out: not readable, or too large for the page"


def _classes(names: Sequence[str]) -> str:
    """`strict incorrect, exact correct, ...`, or one class if all schemes agree."""
    if len(set(names)) == 1:
        return f"{names[0]} in all schemes"
    return ", ".join(f"{scheme} {name}" for scheme, name in zip(SCHEMES, names, strict=True))


def _facts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """A configuration as (dotted key, value) lines; lists as JSON."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _facts(inner, f"{path}.{key}" if path else str(key))
    else:
        yield safe_text(path), safe_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _best_epoch(config: Mapping[str, Any]) -> float | None:
    """The epoch whose weights the run keeps."""
    dev = config.get("dev")
    return dev.get("epoch") if isinstance(dev, Mapping) else None
