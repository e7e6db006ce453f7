"""Label sets of datasets: entity types with their general words, aliases, tags, and entity boundary labels."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

from schema.errors import DataError
from schema.records import Entity, Span

Scheme = Literal["iob2", "iob1", "io", "bioes", "bilou", "bmes"]
PREFIXES: dict[Scheme, str] = {"iob2": "BI", "iob1": "BI", "io": "", "bioes": "BIES", "bilou": "BILU", "bmes": "BMES"}
EBD_TAGS = ("O", "B", "E")  # Section 3.3: neither, head, tail; a one-word entity is B (the paper does not say)


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

    @cached_property
    def types(self) -> tuple[str, ...]:
        return tuple(self.words)

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """`O, B-t1, I-t1, B-t2, ...`: the index of a tag is its id."""
        return ("O", *(f"{prefix}-{name}" for name in self.types for prefix in "BI"))

    @cached_property
    def tag_ids(self) -> Mapping[str, int]:
        return {tag: index for index, tag in enumerate(self.tags)}

    @cached_property
    def general_words(self) -> tuple[str, ...]:
        """Each general word once, in the order of the types: two types may share one."""
        return tuple(dict.fromkeys(self.words.values()))

    def knows(self, name: str) -> bool:
        return name in self.words or name in self.aliases

    def fits(self, tag: str, scheme: Scheme = "iob2") -> bool:
        """Whether the tag is `O`, or a prefix of the scheme with a known type."""
        prefix, _, name = tag.partition("-")
        has_prefix = len(prefix) == 1 and prefix in PREFIXES[scheme] and self.knows(name)
        return tag == "O" or (self.knows(tag) if scheme == "io" else has_prefix)

    def canonical(self, tag: str, scheme: Scheme = "iob2") -> str:
        """The tag with aliases resolved, in IOB1 for IO; raises DataError with the likely cause if it does not fit."""
        prefix, dash, name = tag.partition("-")
        if tag != "O" and scheme == "io" and self.knows(tag):
            return f"I-{self.aliases.get(tag, tag)}"
        if self.fits(tag, scheme):
            return f"{prefix}{dash}{self.aliases.get(name, name)}"
        alike = next((known for known in (*self.words, *self.aliases) if known.lower() == name.lower()), "")
        if alike and self.fits(other := f"{prefix.upper()}-{alike}", scheme):
            raise DataError(f"unknown label {tag!r}", todo=f"write {other!r}: labels are case-sensitive")
        if self.knows(tag):
            todo = "write B- before an entity's first word and I- before its others, or set source.scheme: io"
            raise DataError(f"label {tag!r} has no prefix", todo=todo)
        self.canonical_type(name, tag)  # raises DataError for an unknown type
        fitting = [known for known in PREFIXES if self.fits(tag, known)]
        todo = f"set source.scheme: {' or '.join(fitting)}" if fitting else "correct the label"
        raise DataError(f"label {tag!r} has the prefix {prefix!r}, which {scheme} does not have", todo=todo)

    def canonical_type(self, name: str, label: str | None = None) -> str:
        """The type with aliases resolved; raises DataError for an unknown one. `label`: what errors quote."""
        if not self.knows(name):
            near = difflib.get_close_matches(name, [*self.words, *self.aliases], n=1)
            hint = f"did you mean {near[0]}? Otherwise " if near else ""
            what = f"unknown label {name if label is None else label!r}, the types are {', '.join(self.types)}"
            raise DataError(what, todo=f"{hint}add the type to source.labels or source.aliases")
        return self.aliases.get(name, name)

    def to_json(self) -> dict[str, Mapping[str, str]]:
        return {"labels": self.words, "aliases": self.aliases}

    @classmethod
    def from_json(cls, value: Mapping[str, Mapping[str, str]]) -> Self:
        return cls(value["labels"], value["aliases"])


DEFAULT_LABELS = LabelSet(
    {"PER": "person", "LOC": "location", "ORG": "organization", "MISC": "miscellaneous"}, {"OTHER": "MISC"}
)


def to_iob2(tags: Sequence[str], scheme: Scheme) -> tuple[list[str], int, int]:
    """IOB2 tags, the number of tags that continued no entity and became `O`, and of entities without their last tag."""
    if scheme == "iob2":  # not changed: orphan `I-` are part of the data
        return list(tags), 0, 0
    if scheme in ("iob1", "io"):
        return ["B" + tag[1:] if orphan else tag for tag, orphan in zip(tags, orphans(tags), strict=True)], 0, 0
    # BIOES, BILOU and BMES: an entity has a first (B) and a last tag (E or L), or is one word (S or U)
    result, current, n_orphans, n_unclosed = [], "", 0, 0  # `current`: the type of the entity that is not closed yet
    for tag in tags:
        prefix, _, name = tag.partition("-")
        continues = prefix not in "BSUO" and name == current
        n_unclosed += bool(current) and not continues
        n_orphans += prefix not in "BSUO" and not continues
        result.append(f"I-{name}" if continues else f"B-{name}" if prefix in "BSU" else "O")
        current = name if prefix == "B" or (continues and prefix in "IM") else ""
    return result, n_orphans, n_unclosed + bool(current)


def entities(tags: Sequence[str], *, lenient: bool = False) -> list[Entity]:
    """Entities of IOB2 tags. Strict: only `B-` starts one; lenient: an orphan `I-` does too (seqeval's default)."""
    result: list[Entity] = []
    start, name = -1, ""
    for index, tag in enumerate([*tags, "O"]):
        if tag.startswith("I-") and start >= 0 and tag[2:] == name:
            continue
        if start >= 0:
            result.append(Entity(Span(start, index), name))
        opens = tag.startswith("B-") or (lenient and tag.startswith("I-"))
        start, name = (index, tag[2:]) if opens else (-1, "")
    return result


def orphans(tags: Sequence[str]) -> list[bool]:
    """For each tag, whether it is an `I-` that continues no entity of its type."""
    return [tag.startswith("I-") and before[2:] != tag[2:] for before, tag in zip(["O", *tags], tags, strict=False)]


def to_tags(n_words: int, annotated: Sequence[Entity]) -> list[str]:
    """IOB2 tags of entities; raises DataError if they overlap or lie beyond the words."""
    tags = ["O"] * n_words
    for entity in annotated:
        span = entity.span
        if span.end > n_words:
            raise DataError(f"a span beyond the {n_words} words", found=f"[{span.start}, {span.end})")
        if tags[span.start : span.end] != ["O"] * (span.end - span.start):
            other = next(one for one in annotated if one is not entity and one.span.overlaps(span))
            shown = " and ".join(f"{one.type} [{one.span.start}, {one.span.end})" for one in (other, entity))
            raise DataError("entities overlap", found=f"{shown}, in words", todo="keep one of the two")
        tags[span.start : span.end] = [f"B-{entity.type}"] + [f"I-{entity.type}"] * (span.end - span.start - 1)
    return tags


def ebd_tags(tags: Sequence[str]) -> list[str]:
    """Boundary labels Z of Section 3.3: B at an entity's first word, E at its last if it has two or more, else O."""
    marks = ["O"] * len(tags)
    for entity in entities(tags):
        marks[entity.span.end - 1] = "E"
        marks[entity.span.start] = "B"
    return marks
