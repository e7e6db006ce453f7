"""CoNLL files: one word per line with its label in another column, a blank line between posts.

UMT's form begins each post with a line `IMGID:<id>`, which names its image. Without such lines a post's id is made of
the file's name and its number, and it has no image.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import NoReturn

from pipeline.corpus.config import SourceConfig
from pipeline.corpus.records import RawPost, ReadLog, TagReader, checked_utf8, lines
from schema.errors import DataError
from schema.records import joined

_HEAD = "IMGID:"
_BLANKS = " \t"  # nothing else: one real word is a single U+00A0, which str.strip() would remove
_DOCUMENT = re.compile(r"(\d+[ \t]+)?-DOCSTART-")  # behind the row's number in CoNLL-U
_LABEL = re.compile(r"O$|\w-")
_SAMPLE = 500  # lines from which the layout of a file is read

_Line = tuple[int, str]  # number, text


@dataclass(frozen=True)
class _Layout:
    """How a file's lines are divided: separator of columns ("" for one column), their number, word and label."""

    separator: str
    n_columns: int
    word: int
    label: int | None  # None: the file has no labels
    heads: bool  # posts begin with an IMGID line

    @classmethod
    def of(cls, sample: list[_Line], path: Path, source: SourceConfig) -> _Layout:
        rows = [line for _, line in sample if not _is_blank(line) and not _is_head(line) and not _is_document(line)]
        words = [row for row in rows if not _is_comment(row)]
        separator = next((blank for blank in "\t " if any(blank in row for row in words)), "")
        counts = Counter(len(_split(row, separator)) for row in rows if not _is_comment(row) or separator not in row)
        n_columns = counts.most_common(1)[0][0] if counts else 1
        heads = next((_is_head(line) for _, line in sample if not _is_blank(line) and not _is_comment(line)), False)
        columns = source.columns
        if n_columns == 1:
            return cls(separator, 1, 0, None, heads)
        if columns is None and n_columns > 2:
            todo = "name those of the word and the label: source.columns: {word: 0, label: -1}"
            raise DataError(f"{n_columns} columns", where=str(path), found=repr(words[0]), todo=todo)
        return cls(separator, n_columns, columns.word if columns else 0, columns.label if columns else -1, heads)


def posts(path: Path, source: SourceConfig, log: ReadLog) -> Iterator[Callable[[], RawPost | None]]:
    """Functions that give the posts of a file, in order; each raises DataError with file:line for a bad post.

    A file has a label for every word, or none.
    """
    every = lines(path)
    sample = list(islice(every, _SAMPLE))
    layout = _Layout.of(sample, path, source)
    reader = TagReader(source.label_set(), source.scheme, path, log)
    rows = ((number, line) for number, line in chain(sample, every) if not _is_remark(line, layout))
    groups = _headed(rows, path) if layout.heads else _plain(rows, path)
    for group in groups:
        if isinstance(group, DataError):
            yield partial(_raise, group)
        else:
            yield partial(_post, path, *group, reader, layout)


def count(path: Path) -> int:
    """How many posts a well-formed file has, without reading them: for progress."""
    n_heads = n_groups = 0
    blank = True
    for _, line in lines(path):
        n_heads += _is_head(line)
        separates = _is_blank(line) or _is_document(line)
        n_groups += blank and not separates
        blank = separates
    return n_heads or n_groups


def _is_head(line: str) -> bool:
    return line.startswith(_HEAD) and "\t" not in line.rstrip(_BLANKS)  # with a second column it is a word


def _is_blank(line: str) -> bool:
    return not line.strip(_BLANKS)


def _is_document(line: str) -> bool:
    return bool(_DOCUMENT.match(line))


def _is_comment(line: str) -> bool:
    """Whether the line looks like a comment such as `# text = ...`; with a label in its columns it is a word."""
    return line.startswith("# ")


def _headed(every: Iterator[_Line], path: Path) -> Iterator[tuple[_Line, str, list[_Line]] | DataError]:
    """Head (line number, id), image stem and rows of each post."""
    head: _Line | None = None
    rows: list[_Line] = []
    ended = False
    for number, line in every:
        if _is_head(line):
            if head:
                yield head, head[1], rows
            head, rows, ended = (number, line.removeprefix(_HEAD).strip(_BLANKS)), [], False
        elif _is_blank(line) or _is_document(line):
            ended = bool(rows)
        elif head is None or ended:
            todo = f"begin each post with a line {_HEAD}<id>; blank lines only separate posts"
            yield DataError("a word outside any post", where=f"{path}:{number}", found=repr(line), todo=todo)
        else:
            rows.append((number, line))
    if head:
        yield head, head[1], rows


def _plain(every: Iterator[_Line], path: Path) -> Iterator[tuple[_Line, str, list[_Line]] | DataError]:
    """The same for a file without IMGID lines."""
    rows: list[_Line] = []
    n_posts = 0
    for number, line in chain(every, [(0, "")]):
        if _is_head(line):
            todo = "begin each post of the file with such a line, or none"
            yield DataError(f"an {_HEAD} line, which the first post does not have", where=f"{path}:{number}", todo=todo)
        elif not (_is_blank(line) or _is_document(line)):
            rows.append((number, line))
        elif rows:
            n_posts += 1
            yield (rows[0][0], f"{path.stem}-{n_posts}"), "", rows
            rows = []


def _raise(error: DataError) -> NoReturn:
    raise error


def _post(
    path: Path, head: _Line, stem: str, lines_: list[_Line], reader: TagReader, layout: _Layout
) -> RawPost | None:
    where = f"{path}:{head[0]}"
    if not head[1]:
        raise DataError("a post without an id", where=where, found=_HEAD, todo=f"write {_HEAD}<id>")
    checked_utf8(head[1], where)
    every = [(number, _cells(path, number, line, layout)) for number, line in lines_]
    rows = [(number, cells) for number, cells in every if cells[layout.word]]  # published files lose rare characters
    reader.log.n_empty_words += len(every) - len(rows)
    if every and not rows:
        reader.log.n_empty_posts += 1
        return None
    if not rows:
        raise DataError(f"post {head[1]} has no words", where=where, todo="give it a word, or remove its line")
    words = [cells[layout.word] for _, cells in rows]
    tags, n_orphans = None, 0
    if layout.label is not None:
        labels, numbers = [cells[layout.label] for _, cells in rows], [number for number, _ in rows]
        tags, n_orphans = reader.log.gold(lambda: reader.iob2(labels, numbers))
    return RawPost(where, head[1], tuple(words), *joined(words), tags, image_stem=stem, n_orphans=n_orphans)


def _is_remark(line: str, layout: _Layout) -> bool:
    """Whether a line is a comment: `# O` and `#<TAB>O` are words, `# text = ...` is none."""
    if not _is_comment(line):
        return False
    cells = _split(line, layout.separator)
    return layout.label is None or len(cells) != layout.n_columns or not _LABEL.match(cells[layout.label])


def _split(line: str, separator: str) -> list[str]:
    if separator == " ":
        return re.split(" +", line.strip(" "))
    return [cell if at == 0 else cell.strip(" ") for at, cell in enumerate(line.split("\t"))] if separator else [line]


def _cells(path: Path, number: int, line: str, layout: _Layout) -> list[str]:
    where = f"{path}:{number}"
    cells = _split(checked_utf8(line, where), layout.separator)
    if len(cells) != layout.n_columns:
        if layout.n_columns == 1:
            raise DataError("expected one word per line", where=where, found=repr(line), todo="remove what follows it")
        name = "tab" if layout.separator == "\t" else "space"
        todo = "label every word of a file, or none"
        if re.fullmatch(r"\w+:\S+", line):
            todo += f"; if the line begins a post, write {_HEAD}<id>"
        elif layout.separator == "\t" and len(re.split(" +", line.strip(" "))) == layout.n_columns:
            todo = "there is a space in place of the tab"
        what = f"expected {layout.n_columns} columns separated by {name}s, as in the rest of the file"
        raise DataError(what, where=where, found=repr(line), todo=todo)
    try:
        cells[layout.word], cells[layout.label or 0]
    except IndexError:
        todo = "columns are counted from 0, or from the end as -1"
        raise DataError(
            f"no such column among {len(cells)}", where=where, found=f"{layout.word}, {layout.label}", todo=todo
        ) from None
    if not cells[layout.word] and cells[layout.label or 0] != "O":
        raise DataError("an empty word", where=where, found=repr(line), todo="remove the line, or give the word")
    return cells
