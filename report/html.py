"""The page of a run in one file: scores, learning curves, calibration, errors, and posts with their images."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from report.breakdown import expected_error, judged, reliability
from report.errors import KINDS, SCHEMES, count
from report.figures import learning_curve, reliability_plot
from report.pages import Loader, script_json, write_page
from report.posts import page_data, select
from report.runs import Run, label_words, read_run
from schema.text import safe_text

CAP = 2000  # posts with errors on a page: it opens within two seconds and stays below 20 MB
N_TYPES = 100  # types of a confusion table, which has their square of cells
N_FACTS = 300  # lines of the run's configuration
DEV_SCORES = {"dev_f1": "F1", "dev_precision": "precision", "dev_recall": "recall"}


class ScoreRow(NamedTuple):
    """Strict and lenient scores of a type, or of all types together (""); `lenient` None: the run has none."""

    type: str
    strict: Mapping[str, float]
    lenient: Mapping[str, float] | None


def write(folder: Path, out: Path, *, load_image: Loader, redact: bool = False, cap: int = CAP) -> None:
    """Write the page of a run; `cap` limits the posts with errors, `redact` hides @names, links and images."""
    run = read_run(folder)
    selection = select(run.predictions, cap)
    words = label_words(run.config)
    data, n_posts, n_images = page_data(selection.predictions, words, load_image, types=run.types, redact=redact)
    origin, dev = (value if isinstance(value, Mapping) else {} for value in map(run.config.get, ("data", "dev")))
    write_page(
        out,
        "report.html.jinja",
        ("cards.js", "report.js"),
        run=run,
        splits=[_section(run, name) for name in dict.fromkeys([*run.metrics, *run.predictions])],
        losses=learning_curve(run.curves, {"train_loss": "training loss"}, "loss"),
        curve=learning_curve(run.curves, DEV_SCORES, "dev score", dev.get("epoch")),
        score_names=list(DEV_SCORES.values()),
        facts=list(_facts(run.config))[:N_FACTS],
        kinds=KINDS,
        schemes=SCHEMES,
        types=run.types,
        selection=selection,
        n_posts=n_posts,
        n_images=n_images,
        redact=redact,
        variant=str(origin.get("variant") or ""),
        warning=str(origin.get("warning") or ""),
        data=script_json(data),
    )


def score_rows(metrics: Mapping[str, Any], order: Sequence[str] = ()) -> list[ScoreRow]:
    """Rows of one split: all types together first, then the types of `order`, then any others."""
    strict, lenient = metrics["strict"], metrics.get("lenient") or {}
    names = [name for name in dict.fromkeys([*order, *strict["types"]]) if name in strict["types"]]
    types = [ScoreRow(name, strict["types"][name], (lenient.get("types") or {}).get(name)) for name in names]
    return [ScoreRow("", strict["micro"], lenient.get("micro")), *types]


def _section(run: Run, name: str) -> dict[str, Any]:
    """The page's tables of one split; empty if the posts have no gold labels."""
    predictions, metrics = run.predictions.get(name), run.metrics.get(name)
    labelled = [prediction for prediction in predictions or () if prediction.gold is not None]
    kinds, confusion = count((prediction.gold or (), prediction.predicted) for prediction in labelled)
    pairs = list(judged(labelled))
    bins = reliability(pairs)
    confusion_rows = []  # gold type, and for each predicted type the number, its share of the row as 0 to 9, agreement
    for actual in run.types if len(run.types) <= N_TYPES else ():
        counts = [(name, confusion[actual, name]) for name in (*run.types, "")]
        total = max(1, sum(n for _, n in counts))
        confusion_rows.append((actual, [(n, math.ceil(9 * n / total), name == actual) for name, n in counts]))
    n_correct = sum(n for (_, kind), n in kinds.items() if kind == "correct")
    return {
        "name": name,
        "n_posts": int((metrics or {}).get("n_posts", 0)) if predictions is None else len(predictions),
        "scores": score_rows(metrics, run.types) if metrics else [],
        "kinds": kinds,
        "confusion": confusion,
        "confusion_rows": confusion_rows,
        "n_judged": len(pairs),
        "ece": expected_error(bins),
        "plot": reliability_plot(bins) if pairs else None,
        "n_correct": n_correct,
        "n_scored": metrics["strict"]["micro"]["n_correct"] if metrics and labelled else n_correct,
    }


def _facts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, value) lines of a configuration; lists as JSON."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _facts(inner, f"{path}.{key}" if path else str(key))
    else:
        yield safe_text(path), safe_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
