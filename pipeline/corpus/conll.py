"""UMT's CoNLL format: an `IMGID:<id>` line, then `word<TAB>label` lines, a blank line between posts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.corpus.config import SourceConfig
from pipeline.corpus.records import RawPost, TagReader, lines
from schema.errors import DataError
from schema.records import joined

_HEAD = "IMGID:"
_BLANKS = " \t"  # nothing else: one real word is a lone U+00A0, which str.strip() would lose

_Line = tuple[int, str]  # number, text


def read(path: Path, source: SourceConfig) -> Iterator[RawPost]:
    """Posts of a file, in order; a file has a label on every word, or on none (tags None).

    Raises DataError with file:line for a line that breaks the format.
    """
    reader = TagReader(source.label_set(), source.scheme)
    labelled: bool | None = None
    for head, body in _groups(path):
        if labelled is None and body:
            labelled = "\t" in body[0][1]
        yield _post(path, head, body, reader, bool(labelled))


def is_head(line: bytes) -> bool:
    """Whether a line begins a post: for counting posts without reading them."""
    return line.removeprefix(b"\xef\xbb\xbf").startswith(_HEAD.encode()) and b"\t" not in line


def _groups(path: Path) -> Iterator[tuple[_Line, list[_Line]]]:
    head: _Line | None = None
    body: list[_Line] = []
    ended = False
    for number, line in lines(path):
        if line.startswith(_HEAD) and "\t" not in line:  # with a tab it is a word that looks like a head
            if head:
                yield head, body
            head, body, ended = (number, line.removeprefix(_HEAD).strip(_BLANKS)), [], False
        elif not line.strip(_BLANKS):
            ended = bool(body)
        elif head is None or ended:
            todo = f"begin each post with a line {_HEAD}<id>; only posts are parted by blank lines"
            raise DataError("a word outside any post", where=f"{path}:{number}", found=repr(line), todo=todo)
        else:
            body.append((number, line))
    if head:
        yield head, body


def _post(path: Path, head: _Line, body: list[_Line], reader: TagReader, labelled: bool) -> RawPost:
    where = f"{path}:{head[0]}"
    if not head[1]:
        raise DataError("a post without an id", where=where, found=_HEAD, todo=f"write {_HEAD}<id>")
    if not body:
        raise DataError(f"post {head[1]} has no words", where=where, todo="give it a word, or remove its line")
    words, tags = [], []
    for number, line in body:
        word, tag = _cells(path, number, line, labelled)
        words.append(word)
        if labelled:
            tags.append(reader.one(tag, path, number))
    text, offsets = joined(words)
    found = reader.iob2(tags) if labelled else None
    return RawPost(where, head[1], tuple(words), text, offsets, found, image_stem=head[1])


def _cells(path: Path, number: int, line: str, labelled: bool) -> tuple[str, str]:
    cells = line.split("\t")
    where = f"{path}:{number}"
    if len(cells) != (2 if labelled else 1):
        wanted = "word<TAB>label" if labelled else "a word alone, as in this file's first post"
        raise DataError(f"expected {wanted}", where=where, found=repr(line), todo="label every word of a file, or none")
    if not labelled and " " in line:
        raise DataError("a blank inside a word", where=where, found=repr(line), todo="part word and label by a tab")
    if not cells[0]:
        raise DataError("an empty word", where=where, found=repr(line), todo="remove the line, or give the word")
    return cells[0], cells[-1].strip(" ")
