"""JSONL: one post per line, as tokens with labels, or as text with entities by characters. A JSON list is read too."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from pipeline.corpus.config import FIELDS, Export, SourceConfig
from pipeline.corpus.records import Gold, RawPost, ReadLog, Reads, TagReader, checked_utf8, lines, moved
from pipeline.corpus.tokenizer import Offsets, tokenize
from schema.errors import DataError
from schema.labels import to_tags
from schema.records import Entity, Span, joined

Row = dict[str, Any]

_START, _END = ("start", "start_offset", "begin"), ("end", "end_offset")
_ENTITIES: dict[Export, tuple[str, ...]] = {
    "doccano": ("label", "labels"),
    "prodigy": ("spans",),
    "labelstudio": ("label",),
}
_TYPE = ("type", "label", "labels", "entity_group", "entity_type")
_LABELSTUDIO_NOTES = ("choices", "textarea", "rating", "number", "datetime", "taxonomy")  # about a text or a span
_LIKE_GOLD = re.compile(  # keys such as ner_tags, gold_labels, entity_spans; not pos_tags, hashtags, stages
    r"^(?!pos_|chunk_|dep_).*(?:(?:^|_|ner|bio)tags?|span|entit|label|annotation|mention|(?:^|_)(?:ner|bio|iob|ents)(?:_|$))",
    re.IGNORECASE,
)
_LIKE_IMAGE = re.compile(r"(img|image|photo|picture|pic)s?_?(id|path|name|file|filename|file_name|url)?", re.I)
_PRODIGY = " (in Prodigy's form: source: {preset: prodigy})"
_OFTEN = {"sentence": "text", "content": "text", "tweet": "text", "words": "tokens"}  # keys of other projects


def posts(path: Path, source: SourceConfig, log: ReadLog) -> Reads:
    """Functions that return the posts of a file, in order; each raises DataError with file:line for a bad post.

    A line is `{"id"?, "tokens", "labels"?, "images"?}`, or has "text" and "entities": [{"start", "end", "type"}].
    Other keys are ignored unless they look like labels, entities, images, or a misspelt key.
    """
    reader = _Reader(source, path, log)
    numbered = lines(path)
    filled = ((number, line) for number, line in numbered if line.strip())
    first = next(filled, None)
    if first and first[1].lstrip().startswith("["):
        text = "\n".join(checked_utf8(line, f"{path}:{number}") for number, line in chain([first], numbered))
        items = _parsed(text, str(path))
        yield from (partial(reader.post, number, item) for number, item in enumerate(items, start=1))
    elif first:
        yield from (partial(reader.line, number, line) for number, line in chain([first], filled))


def posts_in_memory(
    rows: Iterable[Mapping[str, Any] | str], source: SourceConfig, log: ReadLog, first: int = 1
) -> Reads:
    """Like `posts`, for parsed JSON objects or texts; a post without an id gets its number as id."""
    reader = _Reader(source, Path("posts"), log)
    for number, row in enumerate(rows, start=first):
        yield partial(reader.post, number, {"text": row} if isinstance(row, str) else row, str(number))


def texts(path: Path, source: SourceConfig, log: ReadLog) -> Reads:
    """Like `posts`, for a file of texts, one per line; the id of a post is its line number."""
    reader = _Reader(source, path, log)
    return (partial(reader.text, number, line) for number, line in lines(path))


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError("not JSON", where=where, found=str(error), todo="write one object per line") from None


class _Reader:
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
            raise moved(error, error.where or f"{self.path}:{number}") from None

    def _row(self, value: Any) -> Row:
        if not isinstance(value, Mapping):
            todo = 'write {"id": ..., "tokens": [...]} on each line'
            raise DataError("not an object", found=type(value).__name__, todo=todo)
        row = _exported(value, self.source.export) if self.source.export else dict(value)
        row = {key: value for key, value in row.items() if value is not None and key not in self.source.ignore}
        row |= {ours: row.pop(theirs) for ours, theirs in self.source.fields.items() if theirs in row}
        for key in row:
            if key not in FIELDS:
                self._refuse_likely(key, row)
        return row

    def _refuse_likely(self, key: str, row: Row) -> None:
        """Raise DataError for an unknown key that seems to be a part of the post."""
        value, ours = row[key], ""
        if _LIKE_GOLD.match(key) and (isinstance(value, list | dict) or (isinstance(value, str) and "B-" in value)):
            ours = "labels" if "tokens" in row else "entities"
        elif _LIKE_IMAGE.fullmatch(key) and isinstance(value, str | int | list) and "images" not in row:
            ours = "images"
        near = difflib.get_close_matches(key, FIELDS, n=1, cutoff=0.75)
        if ours and value not in ([], {}, ""):
            if self.log.foreign_labels and ours != "images":
                self.log.n_without_gold += 1
                return
            advice = f"map it with source.fields: {{{ours}: {key}}}{_PRODIGY if key == 'spans' else ''}"
            what, found = f"unknown key {key!r} looks like {ours}", repr(value)[:80]
            raise DataError(what, found=found, todo=f"{advice}, or source.ignore: [{key}]")
        if near:
            todo = f"did you mean {near[0]}? Use that name, or source.ignore: [{key}]"
            raise DataError(f"unknown key {key!r}", todo=todo)

    def _post(self, row: Row, number: int, default_id: str) -> RawPost:
        name = row.get("id", default_id)
        if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
            raise DataError("an id must be a string or a number", found=repr(name), todo='give "id": "..."')
        words, text, offsets = self._words(row)
        tags, n_orphans = self.log.gold(lambda: self._gold(row, words, text, offsets, number))
        images = row.get("images") or []  # a list, or the name of a single image
        if isinstance(images, int | str) and not isinstance(images, bool):
            images = [str(images)]
        images = _strings(images, "images")
        for part in (str(name), text, *images):
            try:
                part.encode()
            except UnicodeEncodeError:
                raise DataError("half of a surrogate pair", found=repr(part), todo="write whole characters") from None
        where = f"{self.path}:{number}"
        return RawPost(where, str(name), words, text, offsets, tags, images, n_orphans=n_orphans)

    def _words(self, row: Row) -> tuple[tuple[str, ...], str, Offsets]:
        tokens, text = row.get("tokens"), row.get("text")
        if tokens is None and text is None:
            guess = next((f": {{{_OFTEN[key]}: {key}}}" for key in row if key in _OFTEN), ": {text: ...}")
            todo = f"name the key of the text or the tokens with source.fields{guess}"
            found = f"the keys {', '.join(row) or 'none'}"
            raise DataError("a post has either tokens or text", found=found, todo=todo)
        if isinstance(text, str) and isinstance(tokens, list) and all(isinstance(one, dict) for one in tokens):
            tokens = [one for one in tokens if str(one.get("text", "-")).strip()]
            for token in tokens:
                start, end = token.get("start"), token.get("end")
                if not type(start) is type(end) is int or text[start:end] != token.get("text", text[start:end]):
                    raise DataError("a token needs the start and end of its text", found=repr(token)[:80])
            offsets = tuple((one["start"], one["end"]) for one in tokens if text[one["start"] : one["end"]].strip())
        elif tokens is not None and text is not None:
            todo = "give one of the two, or leave the other out with source.ignore"
            raise DataError("a post has either tokens or text", found=", ".join(row), todo=todo)
        elif tokens is not None:
            words = _strings(tokens, "tokens")
            return words, *joined(words)
        elif isinstance(text, str):
            offsets = tokenize(text, self.source.tokenizer)
        else:
            raise DataError("the text is not a string", found=repr(text)[:80])
        if not offsets:
            raise DataError("this text has no words", found=repr(text), todo="remove the post")
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
            raise DataError("entity offsets count characters of `text`, not tokens", todo="give labels, one per token")
        annotated = sorted(self._entity(one, text, offsets) for one in _list(row["entities"], "entities"))
        for one, other in pairwise(annotated):
            if one.span.overlaps(other.span):
                ends = [(x.type, offsets[x.span.start][0], offsets[x.span.end - 1][1]) for x in (one, other)]
                shown = " and ".join(f"{name} {text[start:end]!r}" for name, start, end in ends)
                raise DataError("entities overlap", found=shown, todo="keep one of the two")
        return tuple(to_tags(len(words), annotated)), 0

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
        said = value.get("text") if isinstance(value, dict) else None
        if self.source.export == "labelstudio" and text[start:end] != said == text[start : end + 1]:
            end += 1  # before version 1.0 the end of a span was its last character
        try:
            span = _span(start, end, text, offsets)
            is_stale = self.source.export == "prodigy"  # the text is that of a model's span, which an annotator changed
            if said is not None and not is_stale and said != text[start:end]:
                raise DataError(f"text[{start}:{end}] is {text[start:end]!r}, but the entity says {said!r}")
        except DataError as error:
            if self.source.offsets == "utf16" or len(text.encode("utf-16-le")) == 2 * len(text):
                raise
            hint = "the offsets may count UTF-16 units, where an emoji counts two: source.offsets: utf16"
            todo = "; ".join(filter(None, (error.todo, hint)))
            raise DataError(error.what, found=error.found, todo=todo) from None
        return Entity(span, self.tags.type(name))


def _parts(value: Any) -> tuple[int, int, str]:
    """Start, end and type of an entity, in the form of any of the tools."""
    parts = value if isinstance(value, list) and len(value) == 3 else [None] * 3
    if isinstance(value, dict):
        parts = [next((value[key] for key in keys if key in value), None) for keys in (_START, _END, _TYPE)]
    start, end, name = parts
    if isinstance(name, list) and len(name) == 1:
        name = name[0]
    if not type(start) is type(end) is int or not isinstance(name, str):
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
        todo = "move the entity's boundaries to word boundaries, or give tokens and labels"
        raise DataError(f"entity {text[start:end]!r} [{start}, {end}) splits a token", found=repr(cut), todo=todo)
    return Span(inside[0], inside[-1] + 1)


def _from_utf16(text: str, at: int) -> int:
    return len(text.encode("utf-16-le")[: 2 * at].decode("utf-16-le", "ignore")) if at >= 0 else at


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{key} is not a list", found=repr(value)[:80])
    return value


def _strings(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise DataError(f"{key} is not a list of non-empty strings", found=repr(value)[:80])
    return tuple(value)


def _exported(row: Mapping[str, Any], tool: Export) -> Row:
    """A row of an annotation tool as one with `text` and `entities`, or with tokens."""
    if tool == "labelstudio" and "data" in row:
        return _labelstudio_task(row)
    result = {"entities" if key in _ENTITIES[tool] else key: value for key, value in row.items()}
    if tool == "prodigy" and result.pop("answer", "accept") != "accept":
        result.pop("entities", None)  # they are not gold
    return result


def _labelstudio_task(row: Mapping[str, Any]) -> Row:
    """A task of Label Studio's JSON export; a row of JSON-MIN has the keys of its `data`."""
    done = row.get("annotations") or row.get("completions") or ()  # their name before version 1.0
    annotations = [one for one in done if not one.get("was_cancelled")]
    if len(annotations) > 1:
        raise DataError(f"{len(annotations)} annotations of one text", todo="keep one of them")
    task = {"id": row.get("id"), **row["data"]}
    if annotations:
        results = [one for one in annotations[0].get("result") or () if one.get("type") not in _LABELSTUDIO_NOTES]
        values = [one["value"] for one in results if isinstance(one.get("value"), dict)]
        task["entities"] = [value for value in values if "start" in value]
    return task
