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

from report.pages import redacted, safe_text, write_page
from report.runs import Run, read_run
from schema.errors import RunError
from schema.prediction import Prediction
from schema.records import Entity

N_RESAMPLES = 10_000
CHUNK_DRAWS = 4_000_000  # post numbers drawn at a time: 32 MB
COVERAGE = 0.95  # of the interval
N_ON_PAGE = 2000  # posts that differ on a page

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bootstrap:
    """F1 of two runs on the same posts, first minus second, and what resampling the posts says of the difference.

    `p` is two-sided: twice the share of resamples on the rarer side of 0, those at 0 counted on both; one resample is
    counted in advance, so it is never 0 (Davison & Hinkley 1997, section 4.2). `low` to `high` is the percentile
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
    """A post on which two runs do not say the same; `better` is the run (1 or 2) with fewer errors, 0: as many."""

    id: str
    words: tuple[str, ...]
    gold: tuple[Entity, ...]
    first: tuple[Entity, ...]
    second: tuple[Entity, ...]
    better: int


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
        posts = [_shown(one, redact=False) | {"better": one.better} for one in self.differences]
        return {
            "schema_version": 1,
            "runs": [self.first, self.second],
            "split": self.split,
            **asdict(self.bootstrap),
            "differences": posts,
            "synthetic": self.synthetic,
        }


def compare_runs(
    first: Path, second: Path, split: str | None = None, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Comparison:
    """Compare two evaluated runs' folders on `split` (None: the first of test, dev, train that both were scored on).

    Raises RunError where they were not scored on the same posts.
    """
    runs = read_run(first), read_run(second)
    name = split or _common(*runs)
    lines = [_lines(run, name) for run in runs]
    _check_same(lines[0], lines[1], f"{first} and {second}")
    counts = [counts_of(some) for some in lines]
    found = bootstrap(counts[0], counts[1], n_resamples=n_resamples, seed=seed)
    synthetic = runs[0].synthetic or runs[1].synthetic
    return Comparison(str(first), str(second), name, found, tuple(differences(lines[0], lines[1])), synthetic)


def bootstrap(first: Counts, second: Counts, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> Bootstrap:
    """Resample posts with replacement, the same for both runs, and take the difference of strict micro F1 each time.

    `first` and `second` are [P, 3] counts of gold, predicted and correct entities (`counts_of`), rows in one order. Row
    r of resamples is `default_rng(seed)`'s r-th draw of P post numbers.
    """
    n_posts = len(first)
    if n_posts == 0 or len(second) != n_posts or n_resamples < 1:
        raise RunError("a comparison needs posts and resamples", found=f"{n_posts}, {len(second)} and {n_resamples}")
    rng = np.random.default_rng(seed)
    sides = np.hstack([_halves(first), _halves(second)]).astype(np.float64)  # [P, 4]
    found = []
    step = max(1, CHUNK_DRAWS // n_posts)
    for start in range(0, n_resamples, step):
        n = min(step, n_resamples - start)
        drawn = rng.integers(0, n_posts, size=(n, n_posts))  # [n, P]
        places = drawn + np.arange(n)[:, None] * n_posts
        times = np.bincount(places.ravel(), minlength=n * n_posts).reshape(n, n_posts)  # how often each post came
        sums = times @ sides  # [n, 4]
        found.append(_f1(sums[:, :2]) - _f1(sums[:, 2:]))
    spread = np.concatenate(found)
    whole = sides.sum(axis=0)
    low, high = np.quantile(spread, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    rarer = min(int((spread <= 0).sum()), int((spread >= 0).sum()))
    f1 = float(_f1(whole[None, :2])[0]), float(_f1(whole[None, 2:])[0])
    p = min(1.0, 2 * (1 + rarer) / (1 + n_resamples))
    return Bootstrap(n_posts, n_resamples, seed, *f1, f1[0] - f1[1], float(low), float(high), p)


def counts_of(lines: Sequence[Prediction]) -> Counts:
    """[P, 3]: gold, predicted and correct entities of each post."""
    rows = [(len(set(_gold(line))), len(set(line.predicted)), len(_right(line))) for line in lines]
    return np.array(rows, np.int64).reshape(-1, 3)


def differences(first: Sequence[Prediction], second: Sequence[Prediction]) -> list[Difference]:
    """Posts whose predicted entities are not the same, in their order."""
    found = []
    for one, other in zip(first, second, strict=True):
        if set(one.predicted) != set(other.predicted):
            errors = _n_errors(one), _n_errors(other)
            better = 0 if errors[0] == errors[1] else 1 + (errors[1] < errors[0])
            sides = tuple(sorted(set(one.predicted))), tuple(sorted(set(other.predicted)))
            found.append(Difference(one.post.id, one.post.words, _gold(one), *sides, better))
    return found


def write_html(found: Comparison, out: Path, *, redact: bool = False) -> None:
    """Write the comparison as a page of its own; `redact` hides @names and links."""
    shown = [_shown(one, redact) | {"better": one.better} for one in found.differences[:N_ON_PAGE]]
    write_page(out, "compare.html.jinja", (), found=found, posts=shown, data="{}")


def said(words: Sequence[str], entities: Sequence[Entity]) -> list[str]:
    """Entities for people: `Ada Lovelace PER`."""
    return [safe_text(f"{' '.join(words[one.span.start : one.span.end])} {one.type}") for one in entities]


def _shown(one: Difference, redact: bool) -> dict[str, Any]:
    words = redacted(one.words) if redact else one.words
    return {
        "id": safe_text(one.id),
        "text": safe_text(" ".join(words)),
        "gold": said(words, one.gold),
        "first": said(words, one.first),
        "second": said(words, one.second),
    }


def _halves(counts: Counts) -> Counts:
    """[P, 2]: correct, and gold plus predicted: all that F1 takes."""
    return np.stack([counts[:, 2], counts[:, 0] + counts[:, 1]], axis=1)


def _f1(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[n] F1 of [n, 2] sums of `_halves`; 0 where nothing is there."""
    return 2 * sums[:, 0] / np.maximum(sums[:, 1], 1)


def _gold(line: Prediction) -> tuple[Entity, ...]:
    return line.gold or ()


def _right(line: Prediction) -> set[Entity]:
    return set(_gold(line)) & set(line.predicted)


def _n_errors(line: Prediction) -> int:
    return len(set(_gold(line)) ^ set(line.predicted))


def _common(first: Run, second: Run) -> str:
    for split in first.predictions:
        if split in second.predictions and any(line.gold is not None for line in first.predictions[split]):
            return split
    found = f"{', '.join(first.predictions) or 'none'} and {', '.join(second.predictions) or 'none'}"
    raise RunError("no split that both runs were scored on", found=found, todo="run `fmit evaluate` on both")


def _lines(run: Run, split: str) -> list[Prediction]:
    if split not in run.predictions:
        todo = "run `fmit evaluate --split` on it"
        raise RunError(f"not scored on {split}", where=run.name, found=", ".join(run.predictions) or "none", todo=todo)
    return [line for line in run.predictions[split] if line.gold is not None]


def _check_same(first: Sequence[Prediction], second: Sequence[Prediction], where: str) -> None:
    """Posts, words and gold entities must agree, in order; the first disagreement is named."""
    todo = "compare runs that were scored on the same posts"
    ids = [line.post.id for line in first], [line.post.id for line in second]
    if ids[0] != ids[1]:
        only = sorted(set(ids[0]) ^ set(ids[1]))
        found = f"{len(only)} posts in one of them alone, {', '.join(only[:3])}" if only else "another order"
        raise RunError("the runs were not scored on the same posts", where=where, found=found, todo=todo)
    for one, other in zip(first, second, strict=True):
        if one.post.words != other.post.words or set(_gold(one)) != set(_gold(other)):
            found = f"post {one.post.id} has other words or labels"
            raise RunError("the runs were not scored on the same posts", where=where, found=found, todo=todo)
