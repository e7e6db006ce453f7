"""Is one run better than another? A paired bootstrap (P posts, R resamples), and the posts on which the two differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from report.layout import entity_text
from report.pages import redacted, write_page
from report.runs import read_run
from schema.errors import RunError
from schema.prediction import Prediction
from schema.records import Entity
from schema.text import safe_text

N_RESAMPLES = 10_000
CHUNK_DRAWS = 4_000_000  # post numbers drawn at a time: 32 MB
COVERAGE = 0.95  # of the interval
N_ON_PAGE = 2000  # differing posts on a page

Counts = npt.NDArray[np.int64]


class Bootstrap(NamedTuple):
    """F1 of two runs on the same posts, and the distribution of their difference (first minus second).

    `p` is two-sided: twice the share of resamples on the rarer side of 0 (those at 0 count on both sides), with one
    extra resample so that it is never 0 (Davison & Hinkley 1997, section 4.2).
    """

    n_posts: int
    n_resamples: int
    seed: int
    first_f1: float
    second_f1: float
    difference: float
    low: float  # to `high`: the percentile interval that covers 95%
    high: float
    p: float


class Difference(NamedTuple):
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
        texts = {name: [entity_text(words, entity) for entity in entities] for name, entities in sides.items()}
        return {"id": safe_text(self.id), "text": safe_text(" ".join(words)), **texts, "better": self.better}


class Comparison(NamedTuple):
    first: str
    second: str
    split: str
    bootstrap: Bootstrap
    differences: tuple[Difference, ...]
    synthetic: bool

    def to_json(self) -> dict[str, Any]:
        runs = {"schema_version": 1, "runs": [self.first, self.second], "split": self.split}
        differences = [difference.to_json() for difference in self.differences]
        return {**runs, **self.bootstrap._asdict(), "differences": differences, "synthetic": self.synthetic}


def compare_runs(
    first: Path, second: Path, split: str | None = None, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Comparison:
    """Compare two runs on `split` (None: the first that both were scored on); RunError if their posts differ."""
    runs = read_run(first), read_run(second)
    splits = [", ".join(run.predictions) or "none" for run in runs]
    labelled = [name for name, some in runs[0].predictions.items() if any(each.gold is not None for each in some)]
    name = split or next((name for name in labelled if name in runs[1].predictions), "")
    if not name:
        todo = "run `fmit evaluate` on both"
        raise RunError("no split that both runs were scored on", found=" and ".join(splits), todo=todo)
    for run, found in zip(runs, splits, strict=True):
        if name not in run.predictions:
            raise RunError(
                f"not scored on {name}", where=run.name, found=found, todo="run `fmit evaluate --split` on it"
            )
    sides = [[each for each in run.predictions[name] if each.gold is not None] for run in runs]
    if found := _disagreement(*sides):
        where, todo = f"{first} and {second}", "compare runs that were scored on the same posts"
        raise RunError("the runs were not scored on the same posts", where=where, found=found, todo=todo)
    result = bootstrap(*map(counts_of, sides), n_resamples=n_resamples, seed=seed)
    synthetic = runs[0].synthetic or runs[1].synthetic
    return Comparison(str(first), str(second), name, result, tuple(differences(*sides)), synthetic)


def _disagreement(first: Sequence[Prediction], second: Sequence[Prediction]) -> str:
    """How posts, words or gold entities differ; "" if they agree in order."""
    sides = [[(each.post.id, each.post.words, set(each.gold or ())) for each in side] for side in (first, second)]
    ids = [[post[0] for post in side] for side in sides]
    if unpaired := sorted({*ids[0]} ^ {*ids[1]}):
        return f"{len(unpaired)} posts in only one of them, {', '.join(unpaired[:3])}"
    if ids[0] != ids[1]:
        return "different orders"
    changed = [a[0] for a, b in zip(*sides, strict=True) if a != b]
    return f"post {changed[0]} has different words or labels" if changed else ""


def bootstrap(first: Counts, second: Counts, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> Bootstrap:
    """Resample posts with replacement, the same for both runs, and take the difference of strict micro F1 each time.

    `first` and `second` are `counts_of` posts in the same order: [P, 3]. Resample r is the r-th draw of P post numbers.
    """
    n_posts = len(first)
    if n_posts == 0 or len(second) != n_posts or n_resamples < 1:
        raise RunError("a comparison needs posts and resamples", found=f"{n_posts}, {len(second)} and {n_resamples}")
    rng = np.random.default_rng(seed)
    sides = np.stack([first, second], axis=1).reshape(n_posts, 6).astype(np.float64)  # [P, 6]
    step = max(1, CHUNK_DRAWS // n_posts)
    chunks = []
    for start in range(0, n_resamples, step):
        n = min(step, n_resamples - start)
        cells = rng.integers(0, n_posts, size=(n, n_posts)) + np.arange(n)[:, None] * n_posts  # [n, P]
        times = np.bincount(cells.ravel(), minlength=n * n_posts).reshape(n, n_posts)  # draws of each post
        f1 = _f1((times @ sides).reshape(n, 2, 3))  # [n, 2]
        chunks.append(f1[:, 0] - f1[:, 1])
    spread = np.concatenate(chunks)  # [R]
    low, high = np.quantile(spread, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    rarer = min(int((spread <= 0).sum()), int((spread >= 0).sum()))
    p = min(1.0, 2 * (1 + rarer) / (1 + n_resamples))
    a, b = (float(value) for value in _f1(sides.sum(axis=0).reshape(2, 3)))
    return Bootstrap(n_posts, n_resamples, seed, a, b, a - b, float(low), float(high), p)


def _f1(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """F1 of gold, predicted and correct entities in the last axis; 0 without entities."""
    return 2 * counts[..., 2] / np.maximum(counts[..., 0] + counts[..., 1], 1)


def counts_of(predictions: Sequence[Prediction]) -> Counts:
    """[P, 3]: gold, predicted and correct entities of each post."""
    sets = [(set(each.gold or ()), set(each.predicted)) for each in predictions]
    return np.array([(len(gold), len(given), len(gold & given)) for gold, given in sets], np.int64).reshape(-1, 3)


def differences(first: Sequence[Prediction], second: Sequence[Prediction]) -> list[Difference]:
    """Posts whose predicted entities differ, in their order."""
    result = []
    for a, b in zip(first, second, strict=True):
        gold, sides = set(a.gold or ()), [sorted(set(side.predicted)) for side in (a, b)]
        errors = [len(gold ^ set(side)) for side in sides]
        if sides[0] != sides[1]:
            better = 0 if errors[0] == errors[1] else 1 + (errors[1] < errors[0])
            result.append(Difference(a.post.id, a.post.words, a.gold or (), tuple(sides[0]), tuple(sides[1]), better))
    return result


def write_html(comparison: Comparison, out: Path, *, redact: bool = False) -> None:
    """Write the comparison as a page; `redact` hides @names and links."""
    posts = [difference.to_json(redact=redact) for difference in comparison.differences[:N_ON_PAGE]]
    write_page(out, "compare.html.jinja", (), comparison=comparison, posts=posts, data="{}")
