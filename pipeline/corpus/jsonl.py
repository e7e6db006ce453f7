"""JSONL: a post a line, as tokens with labels, or as raw text with entities by characters."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.corpus.config import SourceConfig
from pipeline.corpus.records import RawPost, TagReader, lines, moved
from schema.errors import DataError
from schema.labels import to_tags
from schema.records import Entity, Span, joined

_KEYS = ("id", "tokens", "labels", "text", "entities", "images")
_Offsets = tuple[tuple[int, int], ...]
_Row = dict[str, Any]


def read(path: Path, source: SourceConfig) -> Iterator[RawPost]:
    """Posts of a file, in order; blank lines are skipped.

    A line is `{"id", "tokens", "labels"?, "images"?}` or `{"id", "text", "entities": [{"start", "end", "type"}]?,
    "images"?}` with characters `[start, end)`; without labels or entities a post is unlabelled. Other keys are left
    alone, unless they look like one of these misspelt. Raises DataError with file:line.
    """
    return _posts(((number, line) for number, line in lines(path) if line.strip()), source, path, _parsed)


def from_rows(rows: Iterable[Mapping[str, Any] | str], source: SourceConfig, first: int = 1) -> Iterator[RawPost]:
    """Posts given in memory: objects as in a file's lines, or raw texts; one without an id gets its number."""
    return _posts(enumerate(rows, start=first), source, Path("posts"), None)


def _posts(
    numbered: Iterable[tuple[int, Any]], source: SourceConfig, path: Path, parse: Callable[[str], Any] | None
) -> Iterator[RawPost]:
    reader = TagReader(source.label_set(), source.scheme)
    for number, value in numbered:
        try:
            row = _row(parse(value)) if parse else _row(_given(value, number))
            yield _post(row, reader, path, number)
        except DataError as error:
            raise (error if error.where else moved(error, f"{path}:{number}")) from None


def _given(value: Mapping[str, Any] | str, number: int) -> Any:
    if isinstance(value, str):
        return {"id": str(number), "text": value}
    return {"id": str(number), **value} if isinstance(value, Mapping) else value


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError("not JSON", found=str(error), todo="write one object a line") from None


def _row(row: Any) -> _Row:
    if not isinstance(row, dict):
        raise DataError("not an object", found=type(row).__name__, todo='write {"id": ..., "tokens": [...]} a line')
    for key in row:
        near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.75)
        if key not in _KEYS and near:
            raise DataError(f"unknown key {key!r}", todo=f"did you mean {near[0]}?")
    return {key: value for key, value in row.items() if value is not None}


def _post(row: _Row, reader: TagReader, path: Path, number: int) -> RawPost:
    name = row.get("id")
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise DataError("a post needs an id", found=repr(name), todo='give "id": "..."')
    if ("tokens" in row) == ("text" in row):
        raise DataError("a post has either tokens or text", found=", ".join(row), todo="give one of the two")
    make = _from_tokens if "tokens" in row else _from_text
    words, text, offsets, tags = make(row, reader, path, number)
    images = _strings(row, "images") if "images" in row else ()
    for part in (str(name), text, *images):
        try:
            part.encode()
        except UnicodeEncodeError:
            raise DataError("half of a surrogate pair", found=repr(part), todo="write whole characters") from None
    return RawPost(f"{path}:{number}", str(name), words, text, offsets, tags, images)


def _from_tokens(
    row: _Row, reader: TagReader, path: Path, number: int
) -> tuple[tuple[str, ...], str, _Offsets, tuple[str, ...] | None]:
    if "entities" in row:
        raise DataError("entities count characters of text, not tokens", todo="give labels, one a token")
    words = _strings(row, "tokens")
    tags = None
    if "labels" in row:
        labels = _strings(row, "labels")
        if len(labels) != len(words):
            raise DataError(f"{len(words)} tokens but {len(labels)} labels", todo="give one label a token")
        tags = reader.iob2([reader.one(tag, path, number) for tag in labels])
    return words, *joined(words), tags


def _from_text(
    row: _Row, reader: TagReader, path: Path, number: int
) -> tuple[tuple[str, ...], str, _Offsets, tuple[str, ...] | None]:
    if "labels" in row:
        raise DataError("labels go with tokens, not with text", todo="give entities by characters")
    text = row["text"]
    if not isinstance(text, str):
        raise DataError("text is no string", found=repr(text))
    offsets = _tokenise(text)
    if not offsets:
        raise DataError("no word in this text", found=repr(text), todo="remove the post")
    words = tuple(text[start:end] for start, end in offsets)
    if "entities" not in row:
        return words, text, offsets, None
    if not isinstance(row["entities"], list):
        raise DataError("entities is no list", found=repr(row["entities"]))
    found = [_entity(entity, text, offsets, reader, path, number) for entity in row["entities"]]
    return words, text, offsets, tuple(to_tags(len(words), found))


def _entity(value: Any, text: str, offsets: _Offsets, reader: TagReader, path: Path, number: int) -> Entity:
    keys = {"start": int, "end": int, "type": str}
    if not isinstance(value, dict) or any(type(value.get(key)) is not kind for key, kind in keys.items()):
        raise DataError("an entity needs start, end (characters) and type", found=repr(value))
    start, end = value["start"], value["end"]
    if not 0 <= start < end <= len(text):
        raise DataError(f"an entity outside the text of {len(text)} characters", found=f"[{start}, {end})")
    inside = [index for index, (first, last) in enumerate(offsets) if first < end and start < last]
    if not inside:
        raise DataError("an entity without a word", found=repr(text[start:end]))
    first, last = offsets[inside[0]][0], offsets[inside[-1]][1]
    if first < start or end < last:
        cut = text[first : offsets[inside[0]][1]] if first < start else text[offsets[inside[-1]][0] : last]
        todo = "move the entity's ends to the ends of words, or give tokens and labels"
        raise DataError(f"entity {text[start:end]!r} [{start}, {end}) cuts a token", found=repr(cut), todo=todo)
    # prefixes agree over all schemes: B opens an entity everywhere
    return Entity(Span(inside[0], inside[-1] + 1), reader.one(f"B-{value['type']}", path, number)[2:])


def _strings(row: _Row, key: str) -> tuple[str, ...]:
    value = row[key]
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise DataError(f"{key} is no list of strings, none of them empty", found=repr(value)[:80])
    return tuple(value)


def _tokenise(text: str) -> _Offsets:
    return tuple((token.idx, token.idx + len(token)) for token in _tokenizer()(text) if not token.is_space)


@cache
def _tokenizer() -> Callable[[str], Any]:
    from spacy.lang.en import English  # late: spaCy takes a second to import, and only raw text needs it

    return English().tokenizer
