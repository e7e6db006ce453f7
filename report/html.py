"""The page of a run: scores, curves, calibration, errors, and posts with their pictures, in one file."""

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
from report.posts import Chosen, Posts, choose, n_pictures
from report.runs import Run, label_words, read_run
from report.tables import ScoreRow, score_rows
from report.thumbnails import Album, Loader

CAP = 2000  # posts with errors on a page: it opens within two seconds and stays under its 20 MB
N_TYPES = 100  # types of a confusion table, which has their square of cells
N_FACTS = 300  # lines of the run's configuration
SCORES = {"dev_f1": "F1", "dev_precision": "precision", "dev_recall": "recall"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of a confusion table; `shade` 0 to 9 grows with its share of the row."""

    n: int
    shade: int
    is_same: bool


@dataclass(frozen=True)
class SplitView:
    """What the page says of one split; `scores` and `judged` may be absent: posts without gold labels."""

    name: str
    n_posts: int
    scores: list[ScoreRow]
    kinds: Mapping[tuple[str, Kind], int]
    confusion: Mapping[tuple[str, str], int]
    confusion_rows: list[tuple[str, list[Cell]]]
    n_judged: int
    ece: float | None
    plot: Markup | None
    remark: str


def write(run: Path, out: Path, *, load_image: Loader, redact: bool = False, cap: int = CAP) -> None:
    """Write the page of a run folder to `out`: one file of at most 20 MB that asks nothing of any network.

    `cap` bounds the posts with errors; `redact` hides @names, links and pictures. Raises RunError for a folder that is
    no evaluated run.
    """
    found = read_run(run)
    chosen = choose(found.lines, cap)
    album = Album(load_image, n_pictures(chosen.lines))
    general = {word: name for name, word in label_words(found.config).items()}
    posts = Posts(found.types, general, album, redact)
    posts.add(chosen.lines)
    noted = found.config.get("data")
    noted = noted if isinstance(noted, Mapping) else {}
    write_page(
        out,
        "report.html.jinja",
        ("cards.js", "report.js"),
        run=found,
        splits=[_split(found, name) for name in dict.fromkeys([*found.metrics, *found.lines])],
        losses=learning_curve(found.curves, {"train_loss": "training loss"}, "loss"),
        curve=learning_curve(found.curves, SCORES, "dev score", _chosen_epoch(found.config)),
        score_names=list(SCORES.values()),
        facts=list(_facts(found.config))[:N_FACTS],
        kinds=[(kind, TITLES[kind], MEANINGS[kind], _classes(CLASSES[kind])) for kind in KINDS],
        types=found.types,
        remarks=list(_remarks(found, chosen, posts)),
        redact=redact,
        variant=str(noted.get("variant") or ""),
        warning=str(noted.get("warning") or ""),
        bar=bar,
        data=script_json(posts.data()),
    )


def _split(run: Run, name: str) -> SplitView:
    lines = [line for line in run.lines.get(name, []) if line.gold is not None]
    kinds, confusion = count((line.gold or (), line.entities) for line in lines)
    told = list(judged(lines))
    bins = reliability(told)
    metrics = run.metrics.get(name)
    return SplitView(
        name=name,
        n_posts=len(run.lines[name]) if name in run.lines else int((metrics or {}).get("n_posts", 0)),
        scores=score_rows(metrics, run.types) if metrics else [],
        kinds=kinds,
        confusion=confusion,
        confusion_rows=[
            (actual, _row(confusion, actual, (*run.types, ""))) for actual in run.types if len(run.types) <= N_TYPES
        ],
        n_judged=len(told),
        ece=expected_error(bins),
        plot=reliability_plot(bins) if told else None,
        remark=_disagreement(metrics, kinds) if metrics and lines else "",
    )


def _row(confusion: Mapping[tuple[str, str], int], actual: str, given: Sequence[str]) -> list[Cell]:
    total = sum(confusion[actual, name] for name in given)
    return [
        Cell(n, math.ceil(9 * n / total) if n else 0, name == actual)
        for name, n in ((name, confusion[actual, name]) for name in given)
    ]


def _disagreement(metrics: Mapping[str, Any], kinds: Mapping[tuple[str, Kind], int]) -> str:
    counted = sum(n for (_, kind), n in kinds.items() if kind == "correct")
    stated = metrics["strict"]["micro"]["n_correct"]
    if counted == stated:
        return ""
    return (
        f"The scores count {stated} correct entities, the predictions file {counted}: one of them is stale, "
        "evaluate again."
    )


def _remarks(run: Run, chosen: Chosen, posts: Posts) -> Iterator[str]:
    splits = ", all splits together" if len(run.lines) > 1 else ""
    wrong, rest = f"{chosen.n_wrong_shown:,} of {chosen.n_wrong:,}", f"{chosen.n_rest_shown:,} of {chosen.n_rest:,}"
    yield f"{wrong} with errors and {rest} others{splits}"
    if posts.n_left_out:
        yield f"{posts.n_left_out:,} posts left out: no room on the page"
    if posts.album.n_left_out:
        yield f"{posts.album.n_left_out:,} pictures left out: no room, or not readable now"


def _classes(names: Sequence[str]) -> str:
    """`strict incorrect, exact correct, ...`, or one word where the schemes agree."""
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


def _chosen_epoch(config: Mapping[str, Any]) -> float | None:
    """The epoch whose weights the run keeps."""
    dev = config.get("dev")
    return dev.get("epoch") if isinstance(dev, Mapping) else None
