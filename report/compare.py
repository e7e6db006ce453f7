"""Is one run better than another? A paired bootstrap over posts, and the posts on which the two differ.

Letters: P posts, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from report.layout import entity_text
from report.pages import redacted, safe_text, write_page
from report.runs import Run, read_run
from schema.errors import RunError
from schema.prediction import Prediction
from schema.records import Entity

N_RESAMPLES = 10_000
CHUNK_DRAWS = 4_000_000  # post numbers drawn at a time: 32 MB
COVERAGE = 0.95  # of the interval
N_ON_PAGE = 2000  # differing posts on a page

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bootstrap:
    """F1 of two runs on the same posts, and the distribution of their difference (first minus second).

    `p` is two-sided: twice the share of resamples on the rarer side of 0 (those at 0 count on both sides), with one
    extra resample so that it is never 0 (Davison & Hinkley 1997, section 4.2). `low` to `high` is the percentile
    interval that covers 95%.
    """

    n_posts: int
    n_resamples: int
    seed: int
    first_f1: float
    second_f1: float
    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Difference:
    """A post with different predictions; `better` is the run (1 or 2) with fewer errors, 0 if they are equal."""

    id: str
    words: tuple[str, ...]
    gold: tuple[Entity, ...]
    first: tuple[Entity, ...]
    second: tuple[Entity, ...]
    better: int

    def to_json(self, *, redact: bool = False) -> dict[str, Any]:
        """The post as text for people; `redact` hides @names and links."""
        words = redacted(self.words) if redact else self.words
        sides = {"gold": self.gold, "first": self.first, "second": self.second}
        texts = {name: [entity_text(words, one) for one in entities] for name, entities in sides.items()}
        return {"id": safe_text(self.id), "text": safe_text(" ".join(words)), **texts, "better": self.better}


@dataclass(frozen=True)
class Comparison:
    """Two runs on one split."""

    first: str
    second: str
    split: str
    bootstrap: Bootstrap
    differences: tuple[Difference, ...]
    synthetic: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "runs": [self.first, self.second],
            "split": self.split,
            **asdict(self.bootstrap),
            "differences": [one.to_json() for one in self.differences],
            "synthetic": self.synthetic,
        }


def compare_runs(
    first: Path, second: Path, split: str | None = None, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Comparison:
    """Compare two scored run folders on `split` (None: the first of test, dev, train that both were scored on).

    Raises RunError if they were not scored on the same posts.
    """
    runs = read_run(first), read_run(second)
    name = split or _common_split(*runs)
    lines = [_labelled(run, name) for run in runs]
    _check_same_posts(lines[0], lines[1], f"{first} and {second}")
    result = bootstrap(*map(counts_of, lines), n_resamples=n_resamples, seed=seed)
    synthetic = runs[0].synthetic or runs[1].synthetic
    return Comparison(str(first), str(second), name, result, tuple(differences(*lines)), synthetic)


def bootstrap(first: Counts, second: Counts, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> Bootstrap:
    """Resample posts with replacement, the same for both runs, and take the difference of strict micro F1 each time.

    `first` and `second` are [P, 3] counts of gold, predicted and correct entities (`counts_of`), rows in the same
    order. Resample r is the r-th draw of P post numbers from `default_rng(seed)`.
    """
    n_posts = len(first)
    if n_posts == 0 or len(second) != n_posts or n_resamples < 1:
        raise RunError("a comparison needs posts and resamples", found=f"{n_posts}, {len(second)} and {n_resamples}")
    rng = np.random.default_rng(seed)
    sides = np.hstack([_f1_terms(first), _f1_terms(second)]).astype(np.float64)  # [P, 4]
    step = max(1, CHUNK_DRAWS // n_posts)
    chunks = []
    for start in range(0, n_resamples, step):
        n = min(step, n_resamples - start)
        cells = rng.integers(0, n_posts, size=(n, n_posts)) + np.arange(n)[:, None] * n_posts  # [n, P]
        times = np.bincount(cells.ravel(), minlength=n * n_posts).reshape(n, n_posts)  # draws of each post
        sums = times @ sides  # [n, 4]
        chunks.append(_f1(sums[:, :2]) - _f1(sums[:, 2:]))
    spread = np.concatenate(chunks)  # [R]
    low, high = np.quantile(spread, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    rarer = min(int((spread <= 0).sum()), int((spread >= 0).sum()))
    p = min(1.0, 2 * (1 + rarer) / (1 + n_resamples))
    total = sides.sum(axis=0)
    f1 = float(_f1(total[None, :2])[0]), float(_f1(total[None, 2:])[0])
    return Bootstrap(n_posts, n_resamples, seed, *f1, f1[0] - f1[1], float(low), float(high), p)


def counts_of(lines: Sequence[Prediction]) -> Counts:
    """[P, 3]: gold, predicted and correct entities of each post."""
    sets = [(set(line.gold or ()), set(line.predicted)) for line in lines]
    return np.array([(len(gold), len(given), len(gold & given)) for gold, given in sets], np.int64).reshape(-1, 3)


def differences(first: Sequence[Prediction], second: Sequence[Prediction]) -> list[Difference]:
    """Posts whose predicted entities differ, in their order."""
    found = []
    for one, other in zip(first, second, strict=True):
        gold, a, b = set(one.gold or ()), set(one.predicted), set(other.predicted)
        if a != b:
            errors = len(gold ^ a), len(gold ^ b)
            better = 0 if errors[0] == errors[1] else 1 + (errors[1] < errors[0])
            found.append(
                Difference(one.post.id, one.post.words, one.gold or (), tuple(sorted(a)), tuple(sorted(b)), better)
            )
    return found


def write_html(comparison: Comparison, out: Path, *, redact: bool = False) -> None:
    """Write the comparison as a page; `redact` hides @names and links."""
    posts = [one.to_json(redact=redact) for one in comparison.differences[:N_ON_PAGE]]
    write_page(out, "compare.html.jinja", (), comparison=comparison, posts=posts, data="{}")


def _f1_terms(counts: Counts) -> Counts:
    """[P, 2]: correct, and gold plus predicted, the two sums that F1 needs."""
    return np.stack([counts[:, 2], counts[:, 0] + counts[:, 1]], axis=1)


def _f1(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[n] F1 of [n, 2] sums of `_f1_terms`; 0 without entities."""
    return 2 * sums[:, 0] / np.maximum(sums[:, 1], 1)


def _common_split(first: Run, second: Run) -> str:
    for split in first.predictions:
        if split in second.predictions and any(line.gold is not None for line in first.predictions[split]):
            return split
    found = f"{', '.join(first.predictions) or 'none'} and {', '.join(second.predictions) or 'none'}"
    raise RunError("no split that both runs were scored on", found=found, todo="run `fmit evaluate` on both")


def _labelled(run: Run, split: str) -> list[Prediction]:
    if split not in run.predictions:
        todo = "run `fmit evaluate --split` on it"
        raise RunError(f"not scored on {split}", where=run.name, found=", ".join(run.predictions) or "none", todo=todo)
    return [line for line in run.predictions[split] if line.gold is not None]


def _check_same_posts(first: Sequence[Prediction], second: Sequence[Prediction], where: str) -> None:
    """Raise RunError unless posts, words and gold entities agree in order; it names the first disagreement."""
    ids = [line.post.id for line in first], [line.post.id for line in second]
    only = sorted({*ids[0]} ^ {*ids[1]})
    changed = [
        one.post.id
        for one, other in zip(first, second, strict=False)
        if one.post.words != other.post.words or {*(one.gold or ())} != {*(other.gold or ())}
    ]
    if only:
        found = f"{len(only)} posts in only one of them, {', '.join(only[:3])}"
    elif ids[0] != ids[1]:
        found = "another order"
    elif changed:
        found = f"post {changed[0]} has other words or labels"
    else:
        return
    todo = "compare runs that were scored on the same posts"
    raise RunError("the runs were not scored on the same posts", where=where, found=found, todo=todo)
