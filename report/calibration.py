"""Do confidences keep their word? Bins of a reliability plot and the expected calibration error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from report.errors import outcomes
from report.runs import Line

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
