"""JSONL: one post per line, as tokens with labels, or as text with entities by characters. A JSON list is read too."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NoReturn

from pipeline.corpus.config import FIELDS, SourceConfig
from pipeline.corpus.exports import EXPORTS, Row
from pipeline.corpus.records import Gold, RawPost, ReadLog, TagReader, checked_utf8, lines
from pipeline.corpus.tokenizer import Offsets, tokenize
from schema.errors import DataError
from schema.labels import to_tags
from schema.records import Entity, Span, joined

_START, _END = ("start", "start_offset", "begin"), ("end", "end_offset")
_TYPE = ("type", "label", "labels", "entity_group", "entity_type")
_LIKE_GOLD = re.compile(  # keys such as ner_tags, gold_labels, entity_spans; not pos_tags, hashtags, stages
    r"^(?!pos_|chunk_|dep_).*(?:(?:^|_|ner|bio)tags?|span|entit|label|annotation|mention|(?:^|_)(?:ner|bio|iob|ents)(?:_|$))",
    re.IGNORECASE,
)
_LIKE_IMAGE = re.compile(r"(img|image|photo|image|pic)s?_?(id|path|name|file|filename|file_name|url)?", re.I)
_PRODIGY = " (in Prodigy's form: source: {preset: prodigy})"
_OFTEN = {"sentence": "text", "content": "text", "tweet": "text", "words": "tokens"}  # keys of other projects


def posts(path: Path, source: SourceConfig, log: ReadLog) -> Iterator[Callable[[], RawPost]]:
    """Functions that give the posts of a file, in order; each raises DataError with file:line for a bad post.

    A line is `{"id"?, "tokens", "labels"?, "images"?}` or `{"id"?, "text", "entities": [{"start", "end", "type"}]?,
    "images"?}` with characters `[start, end)`, under the names of `source.fields`; without labels or entities a post is
    unlabelled. Other keys are ignored unless they look like labels, entities or images, or like one of these misspelt.
    """
    reader = _Reader(source, path, log)
    numbered = lines(path)
    filled = ((number, line) for number, line in numbered if line.strip())
    first = next(filled, None)
    if first is None:
        return
    if first[1].lstrip().startswith("["):
        items = _items(chain([first], numbered), path)
        yield from (partial(reader.post, number, item) for number, item in enumerate(items, start=1))
    else:
        yield from (partial(reader.line, number, line) for number, line in chain([first], filled))


def posts_in_memory(
    rows: Iterable[Mapping[str, Any] | str], source: SourceConfig, log: ReadLog, first: int = 1
) -> Iterator[Callable[[], RawPost]]:
    """The same for objects as in a file's lines, or texts; one without an id gets its number."""
    reader = _Reader(source, Path("posts"), log)
    for number, row in enumerate(rows, start=first):
        yield partial(reader.post, number, {"text": row} if isinstance(row, str) else row, str(number))


def texts(path: Path, source: SourceConfig, log: ReadLog) -> Iterator[Callable[[], RawPost]]:
    """The same for a file of texts, one per line; the id of a post is its line number."""
    reader = _Reader(source, path, log)
    for number, line in lines(path):
        yield partial(reader.text, number, line)


def count(path: Path) -> int:
    """How many posts a well-formed file of lines has, without reading them: for progress."""
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def _items(numbered: Iterator[tuple[int, str]], path: Path) -> list[Any]:
    text = "\n".join(checked_utf8(line, f"{path}:{number}") for number, line in numbered)
    items = _parsed(text, str(path))
    return items if isinstance(items, list) else [items]


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError("not JSON", where=where, found=str(error), todo="write one object per line") from None


class _Reader:
    """Rows of one file as posts."""

    def __init__(self, source: SourceConfig, path: Path, log: ReadLog) -> None:
        self.source, self.path, self.log = source, path, log
        self.tags = TagReader(source.label_set(), source.scheme, path, log)

    def line(self, number: int, line: str) -> RawPost:
        where = f"{self.path}:{number}"
        return self.post(number, _parsed(checked_utf8(line, where), where))

    def text(self, number: int, line: str) -> RawPost:
        return self.post(number, {"id": str(number), "text": checked_utf8(line, f"{self.path}:{number}")})

    def post(self, number: int, value: Any, default_id: str = "") -> RawPost:
        try:
            return self._post(self._row(value), number, default_id or f"{self.path.stem}-{number}")
        except DataError as error:
            where = error.where or f"{self.path}:{number}"
            raise DataError(error.what, where=where, found=error.found, todo=error.todo) from None

    def _row(self, value: Any) -> Row:
        """The row under our names; keys that look like a part of a post and are none are errors."""
        if not isinstance(value, Mapping):
            found = type(value).__name__
            raise DataError("not an object", found=found, todo='write {"id": ..., "tokens": [...]} on each line')
        row = EXPORTS[self.source.export](value) if self.source.export else dict(value)
        row = {key: value for key, value in row.items() if value is not None and key not in self.source.ignore}
        renamed = {ours: row.pop(theirs) for ours, theirs in self.source.fields.items() if theirs in row}
        row |= renamed
        for key in row:
            if key not in FIELDS:
                self._refuse_likely(key, row)
        return row

    def _refuse_likely(self, key: str, row: Row) -> None:
        """Raises DataError for an unknown key whose value would be ignored though it seems to be a part of the post."""
        value, ours = row[key], ""
        if _LIKE_GOLD.match(key) and (isinstance(value, list | dict) or (isinstance(value, str) and "B-" in value)):
            ours = "labels" if "tokens" in row else "entities"
        elif _LIKE_IMAGE.fullmatch(key) and isinstance(value, str | int | list) and "images" not in row:
            ours = "images"
        near = difflib.get_close_matches(key, FIELDS, n=1, cutoff=0.75)
        ignore = f"or source.ignore: [{key}]"
        if ours and value not in ([], {}, ""):
            error = DataError(
                f"unknown key {key!r} looks like {ours}",
                found=repr(value)[:80],
                todo=f"name it by source.fields: {{{ours}: {key}}}{_PRODIGY if key == 'spans' else ''}, {ignore}",
            )
            if ours == "images":
                raise error
            self.log.gold(partial(_raise, error))
        elif near:
            raise DataError(f"unknown key {key!r}", todo=f"did you mean {near[0]}? Use that name, {ignore}")

    def _post(self, row: Row, number: int, default_id: str) -> RawPost:
        name = row.get("id", default_id)
        if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
            raise DataError("an id is a text or a number", found=repr(name), todo='give "id": "..."')
        if "tokens" not in row and "text" not in row:
            raise _absent(row)
        words, text, offsets = self._words(row)
        tags, n_orphans = self.log.gold(lambda: self._gold(row, words, text, offsets, number))
        images = _images(row.get("images", ()))
        for part in (str(name), text, *images):
            try:
                part.encode()
            except UnicodeEncodeError:
                raise DataError("half of a surrogate pair", found=repr(part), todo="write whole characters") from None
        where = f"{self.path}:{number}"
        return RawPost(where, str(name), words, text, offsets, tags, images, n_orphans=n_orphans)

    def _words(self, row: Row) -> tuple[tuple[str, ...], str, Offsets]:
        tokens, text = row.get("tokens"), row.get("text")
        if isinstance(text, str) and isinstance(tokens, list) and all(isinstance(one, dict) for one in tokens):
            offsets = tuple(_offsets_of(one, text) for one in tokens if str(one.get("text", "-")).strip())
            offsets = tuple((start, end) for start, end in offsets if text[start:end].strip())
        elif tokens is not None and text is not None:
            todo = "give one of the two, or leave the other out by source.ignore"
            raise DataError("a post has either tokens or text", found=", ".join(row), todo=todo)
        elif tokens is not None:
            words = _strings(tokens, "tokens")
            return words, *joined(words)
        elif isinstance(text, str):
            offsets = tokenize(text, self.source.tokenizer)
        else:
            raise DataError("text is not a string", found=repr(text)[:80])
        if not offsets:
            raise DataError("no word in this text", found=repr(text), todo="remove the post")
        return tuple(text[start:end] for start, end in offsets), text, offsets

    def _gold(self, row: Row, words: tuple[str, ...], text: str, offsets: Offsets, number: int) -> Gold:
        if "labels" in row and "entities" in row:
            raise DataError("a post has either labels or entities", todo="give labels with tokens, entities with text")
        if "labels" in row:
            if "text" in row:
                raise DataError("labels go with tokens, not with text", todo="give entities by characters")
            labels = _strings([self._named(label) for label in _list(row["labels"], "labels")], "labels")
            if len(labels) != len(words):
                raise DataError(f"{len(words)} tokens but {len(labels)} labels", todo="give one label per token")
            return self.tags.iob2(labels, [number] * len(labels))
        if "entities" not in row:
            return None, 0
        if "text" not in row:
            raise DataError("entities count characters of text, not tokens", todo="give labels, one per token")
        found = [self._entity(one, text, offsets) for one in _list(row["entities"], "entities")]
        _refuse_overlap(found, text, offsets)
        return tuple(to_tags(len(words), found)), 0

    def _named(self, label: Any) -> Any:
        names = self.source.label_names
        if not isinstance(label, int) or isinstance(label, bool):
            return label
        if not 0 <= label < len(names):
            todo = "give their names in order: source.label_names: [O, B-PER, I-PER, ...]"
            raise DataError("labels are numbers", found=str(label), todo=todo)
        return names[label]

    def _entity(self, value: Any, text: str, offsets: Offsets) -> Entity:
        start, end, name = _parts(value)
        if self.source.offsets == "utf16":
            start, end = _from_utf16(text, start), _from_utf16(text, end)
        try:
            span = _span(start, end, text, offsets)
            stale = self.source.export == "prodigy"  # the text is that of a model's span, which an annotator changed
            if isinstance(value, dict) and not stale and value.get("text", text[start:end]) != text[start:end]:
                raise DataError(f"characters [{start}, {end}) are {text[start:end]!r}", found=repr(value["text"]))
        except DataError as error:
            if self.source.offsets == "utf16" or len(text.encode("utf-16-le")) == 2 * len(text):
                raise
            todo = "the offsets may count UTF-16 units, where an emoji counts two: source.offsets: utf16"
            raise DataError(
                error.what, found=error.found, todo=f"{error.todo}; {todo}" if error.todo else todo
            ) from None
        return Entity(span, self.tags.type(name))


def _raise(error: DataError) -> NoReturn:
    raise error


def _absent(row: Row) -> DataError:
    guess = next((f": {{{_OFTEN[key]}: {key}}}" for key in row if key in _OFTEN), ": {text: ...}")
    todo = f"name the key of the text or the tokens by source.fields{guess}"
    return DataError("a post has either tokens or text", found=f"the keys {', '.join(row) or 'none'}", todo=todo)


def _parts(value: Any) -> tuple[int, int, str]:
    """Start, end and type of an entity, in the form of any of the tools."""
    if isinstance(value, list) and len(value) == 3:
        parts = value
    elif isinstance(value, dict):
        parts = [next((value[key] for key in keys if key in value), None) for keys in (_START, _END, _TYPE)]
    else:
        parts = [None] * 3
    start, end, name = parts
    if isinstance(name, list) and len(name) == 1:
        name = name[0]
    if type(start) is not int or type(end) is not int or not isinstance(name, str):
        raise DataError("an entity needs start, end (characters) and type", found=repr(value)[:120])
    return start, end, name


def _span(start: int, end: int, text: str, offsets: Offsets) -> Span:
    """The words of characters `[start, end)`, which may include blanks around them."""
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
    return Span(inside[0], inside[-1] + 1)


def _refuse_overlap(entities: list[Entity], text: str, offsets: Offsets) -> None:
    ordered = sorted(entities)
    for one, other in pairwise(ordered):
        if one.span.overlaps(other.span):
            shown = [
                f"{each.type} {text[offsets[each.span.start][0] : offsets[each.span.end - 1][1]]!r}"
                for each in (one, other)
            ]
            raise DataError("entities overlap", found=" and ".join(shown), todo="keep one of the two")


def _from_utf16(text: str, at: int) -> int:
    """The character at a number of UTF-16 units."""
    return len(text.encode("utf-16-le")[: 2 * max(at, 0)].decode("utf-16-le", "ignore")) if at >= 0 else at


def _offsets_of(token: Row, text: str) -> tuple[int, int]:
    start, end = token.get("start"), token.get("end")
    if type(start) is not int or type(end) is not int or text[start:end] != token.get("text", text[start:end]):
        raise DataError("a token needs the start and end of its text", found=repr(token)[:80])
    return start, end


def _images(value: Any) -> tuple[str, ...]:
    """Names of images: a list, or the name of a single one."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return _strings([value] if isinstance(value, str) else value or [], "images")


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{key} is not a list", found=repr(value)[:80])
    return value


def _strings(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise DataError(f"{key} is not a list of strings, none of them empty", found=repr(value)[:80])
    return tuple(value)
