"""Label sets belong to datasets: entity types with their general words, aliases, tags, and entity boundary labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

from schema.errors import DataError
from schema.records import Entity, Span

Scheme = Literal["iob2", "iob1", "bioes"]
EBD_TAGS = ("O", "B", "E")  # Section 3.3: head, tail or neither; a one-word entity is B (ours: the paper is silent)


@dataclass(frozen=True)
class LabelSet:
    """`words` maps each type to the general word that is grounded for it; `aliases` maps other names to types."""

    words: Mapping[str, str]
    aliases: Mapping[str, str]

    def __post_init__(self) -> None:
        if not self.words:
            raise DataError("a label set needs at least one type", todo="give labels: {TYPE: general word}")
        for name, word in self.words.items():
            if not name or name != name.strip() or not word.strip():
                raise DataError("a type and its general word must not be empty", found=f"{name!r}: {word!r}")
        for alias, name in self.aliases.items():
            if name not in self.words:
                raise DataError(f"alias {alias} names a type that is not in labels", found=name)
        object.__setattr__(self, "words", MappingProxyType(dict(self.words)))
        object.__setattr__(self, "aliases", MappingProxyType(dict(self.aliases)))

    def __reduce__(self) -> tuple[type, tuple[dict[str, str], dict[str, str]]]:  # a mappingproxy cannot be pickled
        return LabelSet, (dict(self.words), dict(self.aliases))

    @cached_property
    def types(self) -> tuple[str, ...]:
        return tuple(self.words)

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """`O, B-t1, I-t1, B-t2, ...`: the index of a tag is its id."""
        return ("O", *(f"{prefix}-{name}" for name in self.types for prefix in "BI"))

    @cached_property
    def tag_ids(self) -> Mapping[str, int]:
        return MappingProxyType({tag: index for index, tag in enumerate(self.tags)})

    @cached_property
    def general_words(self) -> tuple[str, ...]:
        """Each general word once, in the order of the types: two types may share one."""
        return tuple(dict.fromkeys(self.words.values()))

    def canonical(self, tag: str) -> str:
        """The tag with aliases resolved; raises DataError for a tag outside the set."""
        prefix, _, name = tag.partition("-")
        known = self.aliases.get(name, name)
        if tag == "O" or (prefix in "BIES" and len(prefix) == 1 and known in self.words):
            return tag if tag == "O" else f"{prefix}-{known}"
        raise DataError(
            f"unknown label {tag!r}, the types are {', '.join(self.types)}",
            todo="add the type to source.labels or source.aliases",
        )

    def to_json(self) -> dict[str, dict[str, str]]:
        return {"labels": dict(self.words), "aliases": dict(self.aliases)}

    @classmethod
    def from_json(cls, value: Mapping[str, Mapping[str, str]]) -> LabelSet:
        return cls(value["labels"], value["aliases"])


DEFAULT_LABELS = LabelSet(
    {"PER": "person", "LOC": "location", "ORG": "organization", "MISC": "miscellaneous"}, {"OTHER": "MISC"}
)


def to_iob2(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """Tags of another scheme as IOB2. IOB2 itself passes unchanged: its orphan `I-` are data, not ours to mend."""
    if scheme == "bioes":
        return [{"S": "B", "E": "I"}.get(tag[0], tag[0]) + tag[1:] for tag in tags]
    if scheme == "iob2":
        for tag in tags:
            if tag[0] in "ES":
                raise DataError(f"{tag!r} is no IOB2 tag", todo="set source.scheme: bioes")
        return list(tags)
    mended, before = [], "O"
    for tag in tags:
        opens = tag.startswith("I-") and before[2:] != tag[2:]
        mended.append("B" + tag[1:] if opens else tag)
        before = tag
    return mended


def entities(tags: Sequence[str], *, lenient: bool = False) -> list[Entity]:
    """Entities of IOB2 tags. Strict: only `B-` opens one; lenient: an orphan `I-` does too (seqeval's default)."""
    found: list[Entity] = []
    start, name = -1, ""
    for index, tag in enumerate([*tags, "O"]):
        inside = tag.startswith("I-") and start >= 0 and tag[2:] == name
        if inside:
            continue
        if start >= 0:
            found.append(Entity(Span(start, index), name))
        opens = tag.startswith("B-") or (lenient and tag.startswith("I-"))
        start, name = (index, tag[2:]) if opens else (-1, "")
    return found


def n_orphans(tags: Sequence[str]) -> int:
    """How many `I-` tags continue no entity of their type."""
    return sum(tag.startswith("I-") and before[2:] != tag[2:] for before, tag in zip(["O", *tags], tags, strict=False))


def to_tags(n_words: int, found: Sequence[Entity]) -> list[str]:
    """IOB2 tags of non-overlapping entities."""
    tags = ["O"] * n_words
    for entity in found:
        for index in range(entity.span.start, entity.span.end):
            if tags[index] != "O":
                raise DataError("entities overlap", found=str(entity))
            tags[index] = ("B-" if index == entity.span.start else "I-") + entity.type
    return tags


def ebd_tags(tags: Sequence[str]) -> list[str]:
    """Boundary labels Z of Section 3.3: B at an entity's first word, E at its last if it has two or more, else O."""
    marks = ["O"] * len(tags)
    for entity in entities(tags):
        if entity.span.end - entity.span.start > 1:
            marks[entity.span.end - 1] = "E"
        marks[entity.span.start] = "B"
    return marks
