"""What every parser of the project is: words in, labelled spans out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from schema.errors import DataError


@dataclass(frozen=True, slots=True)
class Parsed:
    """A sentence's constituents: `(start, end, label)` over its words `[start, end)`, a node of the tree each.

    Labels carry no function tags (`NP`, never `NP-SBJ`). `fallback` says what the parser had to do to get here: ""
    (nothing), "split" (the sentence was too long and went through in parts).
    """

    spans: tuple[tuple[int, int, str], ...]
    fallback: str = ""

    def __post_init__(self) -> None:
        for start, end, label in self.spans:
            if not (0 <= start < end and label):
                raise DataError("a constituent needs 0 <= start < end and a label", found=f"[{start}, {end}) {label!r}")


class Parser(Protocol):
    """A constituency parser, or anything that answers like one.

    `identity` names everything that changes what it answers (name, digest of the weights, algorithm version) and
    nothing else. A sentence's answer does not depend on the sentences that it comes with.
    """

    @property
    def identity(self) -> Mapping[str, str]: ...

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[Parsed]:
        """One answer a sentence, in order. Sentences have at least one word; words are not empty."""
        ...
