"""CoNLL files: one word per line with its label in another column, a blank line between posts.

UMT's form begins each post with a line `IMGID:<id>`, which names its image; else a post has an id, but no image.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Self

from pipeline.corpus.config import SourceConfig
from pipeline.corpus.records import RawPost, ReadLog, Reads, TagReader, checked_utf8, lines
from schema.errors import DataError
from schema.records import joined

_HEAD = "IMGID:"
_BLANKS = " \t"  # nothing else: one real word is a single U+00A0, which str.strip() would remove
_DOCUMENT = re.compile(r"(\d+[ \t]+)?-DOCSTART-")  # in CoNLL-U after the row's number
_LABEL = re.compile(r"O$|\w-")
_SAMPLE = 500  # lines from which the layout of a file is inferred

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
    def of(cls, sample: list[_Line], path: Path, source: SourceConfig) -> Self:
        numbered = [(number, line) for number, line in sample if not _is_head(line) and not _separates(line)]
        rows = [line for _, line in numbered]
        words = [row for row in rows if not _is_comment(row)]
        separator = next((blank for blank in "\t " if any(blank in row for row in words)), "")
        counts = Counter(len(_split(row, separator)) for row in rows if not _is_comment(row) or separator not in row)
        n_columns = counts.most_common(1)[0][0] if counts else 1
        heads = next((_is_head(line) for _, line in sample if not _separates(line) and not _is_comment(line)), False)
        if n_columns == 1:
            return cls(separator, 1, 0, None, heads)
        if source.columns is None and n_columns > 2:
            what = f"{n_columns} columns, cannot tell which are the word and the label"
            todo = "set source.columns, such as {word: 0, label: -1}"
            raise DataError(what, where=str(path), found=repr(words[0]), todo=todo)
        word, label = (source.columns.word, source.columns.label) if source.columns else (0, -1)
        if not all(-n_columns <= column < n_columns for column in (word, label or 0)):
            what, where = f"no such column among {n_columns}", f"{path}:{numbered[0][0]}"
            todo = "columns are counted from 0, or from the end as -1"
            raise DataError(what, where=where, found=f"{word}, {label}", todo=todo)
        return cls(separator, n_columns, word, label, heads)


def posts(path: Path, source: SourceConfig, log: ReadLog) -> Reads:
    """Functions that return the posts of a file, in order; each raises DataError with file:line for a bad post."""
    all_lines = lines(path)
    sample = list(islice(all_lines, _SAMPLE))
    layout = _Layout.of(sample, path, source)
    reader = TagReader(source.label_set(), source.scheme, path, log)
    head: _Line | None = None  # number of a post's first line, and its id
    rows: list[_Line] = []
    n_posts, ended = 0, False
    for number, line in chain(sample, all_lines):
        if _is_comment(line):
            cells = _split(line, layout.separator)  # a word with its label, such as `# O`, is no comment
            if layout.label is None or len(cells) != layout.n_columns or not _LABEL.match(cells[layout.label]):
                continue
        if _is_head(line):
            if not layout.heads:
                what = f"unexpected {_HEAD} line: the first post has none"
                todo = "begin each post of the file with such a line, or none"
                yield partial(log.leave_out, DataError(what, where=f"{path}:{number}", todo=todo))
                continue
            if head:
                yield partial(_post, path, head, rows, reader, layout)
            head, rows, ended = (number, line.removeprefix(_HEAD).strip(_BLANKS)), [], False
        elif _separates(line):
            ended = bool(rows)
            if head and ended and not layout.heads:
                yield partial(_post, path, head, rows, reader, layout)
                head, rows = None, []
        elif layout.heads and (head is None or ended):
            todo = f"begin each post with a line {_HEAD}<id>; blank lines only separate posts"
            error = DataError("a word outside any post", where=f"{path}:{number}", found=repr(line), todo=todo)
            yield partial(log.leave_out, error)
        else:
            if head is None:
                n_posts += 1
                head = number, f"{path.stem}-{n_posts}"
            rows.append((number, line))
    if head:
        yield partial(_post, path, head, rows, reader, layout)


def count(path: Path) -> int:
    """How many posts a well-formed file has, for progress."""
    n_heads = n_groups = 0
    separated = True
    for _, line in lines(path):
        n_heads += _is_head(line)
        n_groups += separated and not _separates(line)
        separated = _separates(line)
    return n_heads or n_groups


def _is_head(line: str) -> bool:
    return line.startswith(_HEAD) and "\t" not in line.rstrip(_BLANKS)  # with a second column it is a word


def _separates(line: str) -> bool:
    return not line.strip(_BLANKS) or bool(_DOCUMENT.match(line))


def _is_comment(line: str) -> bool:
    """Whether it looks like a comment such as `# text = ...`; with a label in its columns it is a word."""
    return line.startswith("# ")


def _split(line: str, separator: str) -> list[str]:
    if separator == " ":
        return re.split(" +", line.strip(" "))
    first, *others = line.split("\t") if separator else [line]
    return [first, *(cell.strip(" ") for cell in others)]


def _post(path: Path, head: _Line, lines_: list[_Line], reader: TagReader, layout: _Layout) -> RawPost | None:
    number, post_id = head
    where = f"{path}:{number}"
    if not post_id:
        raise DataError("a post without an id", where=where, found=_HEAD, todo=f"write {_HEAD}<id>")
    checked_utf8(post_id, where)
    cells = [(number, _cells(f"{path}:{number}", line, layout)) for number, line in lines_]
    rows = [(number, row) for number, row in cells if row[layout.word]]  # published files lose rare characters
    reader.log.n_empty_words += len(cells) - len(rows)
    if cells and not rows:
        reader.log.n_empty_posts += 1
        return None
    if not rows:
        raise DataError(f"post {post_id} has no words", where=where, todo="give it a word, or remove its line")
    words = [row[layout.word] for _, row in rows]
    tags, n_orphans = None, 0
    if layout.label is not None:
        labels, numbers = [row[layout.label] for _, row in rows], [number for number, _ in rows]
        tags, n_orphans = reader.log.gold(lambda: reader.iob2(labels, numbers))
    stem = post_id if layout.heads else ""
    return RawPost(where, post_id, tuple(words), *joined(words), tags, image_stem=stem, n_orphans=n_orphans)


def _cells(where: str, line: str, layout: _Layout) -> list[str]:
    cells = _split(checked_utf8(line, where), layout.separator)
    if len(cells) != layout.n_columns:
        if layout.n_columns == 1:
            raise DataError(
                "expected one word per line", where=where, found=repr(line), todo="remove what follows the word"
            )
        todo = "label every word of a file, or none"
        if re.fullmatch(r"\w+:\S+", line):
            todo += f"; if the line begins a post, write {_HEAD}<id>"
        elif layout.separator == "\t" and len(re.split(" +", line.strip(" "))) == layout.n_columns:
            todo = "there is a space in place of the tab"
        separators = "tabs" if layout.separator == "\t" else "spaces"
        what = f"expected {layout.n_columns} columns separated by {separators}, as in the rest of the file"
        raise DataError(what, where=where, found=repr(line), todo=todo)
    if not cells[layout.word] and cells[layout.label or 0] != "O":
        raise DataError("an empty word", where=where, found=repr(line), todo="remove the line, or give the word")
    return cells
