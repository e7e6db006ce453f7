"""Precision, recall and F1 from counts, for taggers and parsers."""

import operator
from dataclasses import asdict, astuple, dataclass
from typing import Self


@dataclass(frozen=True)
class Counts:
    """Numbers of gold items, predicted items and items in both. P, R and F1 are 0 if their denominator is 0."""

    n_gold: int = 0
    n_predicted: int = 0
    n_correct: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(*map(operator.add, astuple(self), astuple(other)))

    @property
    def precision(self) -> float:
        return self.n_correct / self.n_predicted if self.n_predicted else 0.0

    @property
    def recall(self) -> float:
        return self.n_correct / self.n_gold if self.n_gold else 0.0

    @property
    def f1(self) -> float:
        total = self.n_gold + self.n_predicted
        return 2 * self.n_correct / total if total else 0.0

    def to_json(self) -> dict[str, float | int]:
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1, **asdict(self)}
