"""What the readers share: numbered lines, checked tags, the record that they yield, and a log of what they met."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schema.errors import DataError
from schema.labels import LabelSet, Scheme, to_iob2

_NOT_IN_IDS = re.compile(r"[\x00-\x1f\x7f/\\]")
_UNDECODED = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, by Python's surrogateescape


@dataclass(frozen=True, slots=True)
class RawPost:
    """A post as its file gives it: `id` may repeat, `images` are names of files not opened yet."""

    where: str  # file:line, for errors
    id: str
    words: tuple[str, ...]
    text: str
    offsets: tuple[tuple[int, int], ...]  # [start, end) characters of `text`, one per word
    tags: tuple[str, ...] | None  # IOB2, aliases resolved
    images: tuple[str, ...] = ()
    image_stem: str = ""  # CoNLL: an image's name, usually without its suffix
    n_orphans: int = 0  # tags of BIOES, BILOU and BMES that continue no entity: they became O


Gold = tuple[tuple[str, ...] | None, int]  # IOB2 tags, and RawPost.n_orphans


@dataclass
class ReadLog:
    """Unique ids of a dataset's posts, and what its readers met that is no error.

    A post that breaks its format raises DataError; with `on_error` the error is passed there and the post left out.
    Labels that break theirs are such an error too; with `foreign_labels` the post is read without them.
    """

    on_error: Callable[[DataError], None] | None = None
    foreign_labels: bool = False
    n_repeated: int = 0  # ids that occurred before and became `id~2`
    n_renamed: int = 0  # ids with characters that an id cannot hold
    n_left_out: int = 0  # posts that broke their format
    n_without_gold: int = 0  # posts whose labels did not fit
    n_empty_words: int = 0  # rows of CoNLL with the label O and no word: they were left out
    n_empty_posts: int = 0  # posts of such rows alone
    n_unclosed: int = 0  # entities of BIOES, BILOU and BMES without their last tag
    orphans: Counter[str] = field(default_factory=Counter)  # split -> RawPost.n_orphans of its posts
    unknown: Counter[str] = field(default_factory=Counter)  # labels that did not fit
    n_fitting: int = 0  # labels but O that fitted, in posts with others that did not
    _next: dict[str, int] = field(default_factory=dict)

    def claim(self, given: str) -> str:
        """A unique id: a repeat becomes `id~2`, what cannot be part of an id becomes `_`."""
        name = _NOT_IN_IDS.sub("_", given)
        name = name if name.strip(".") else "_" * len(name)  # `.` and `..` are folders
        self.n_renamed += name != given
        if name not in self._next:
            self._next[name] = 2
            return name
        self.n_repeated += 1
        number = self._next[name]
        while f"{name}~{number}" in self._next:  # some other post may be called so in the file
            number += 1
        self._next[name] = number + 1
        self._next[f"{name}~{number}"] = 2
        return f"{name}~{number}"

    def gold(self, read: Callable[[], Gold]) -> Gold:
        """The labels that `read` gives; none where they break their format and need not be read."""
        try:
            return read()
        except DataError:
            if not self.foreign_labels:
                raise
            self.n_without_gold += 1
            return None, 0

    def leave_out(self, error: DataError) -> None:
        """Count and report a bad post, or raise its error."""
        if self.on_error is None:
            raise error
        self.n_left_out += 1
        self.on_error(error)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their 1-based numbers, without their end (LF, CRLF; CR in a file without LF) and the byte order mark.

    U+2028, U+0085 and the like occur inside words of real posts and end no line. Bytes that are not UTF-8 come as
    surrogates: pass what is used to `checked_utf8`. Raises DataError for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            first = next(file, b"").removeprefix(codecs.BOM_UTF8)
            if first and not first.endswith(b"\n"):  # the whole file
                yield from ((number, _decoded(line)) for number, line in enumerate(_cr_lines(first), start=1))
                return
            yield from ((1, _decoded(first)),) if first else ()
            yield from ((number, _decoded(line)) for number, line in enumerate(file, start=2))
    except OSError as error:
        raise DataError("cannot be read", where=str(path), found=error.strerror or str(error)) from None


def _cr_lines(content: bytes) -> list[bytes]:
    return content.removesuffix(b"\r").split(b"\r")


def _decoded(line: bytes) -> str:
    return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "surrogateescape")


def checked_utf8(line: str, where: str) -> str:
    """The line; raises DataError where the file holds bytes that are not UTF-8."""
    if not line.isascii() and (bad := _UNDECODED.search(line)):
        at = len(line[: bad.start()].encode("utf-8", "surrogateescape"))
        found = f"byte 0x{ord(bad[0]) - 0xDC00:02x} at {at}"
        raise DataError("not UTF-8", where=where, found=found, todo="save the file as UTF-8")
    return line


def moved(error: DataError, where: str) -> DataError:
    """The same error with `where` as its place."""
    return DataError(error.what, where=where, found=error.found, todo=error.todo)


class TagReader:
    """Labels of a file, checked against a label set and a scheme, as IOB2; each distinct label is checked once."""

    def __init__(self, labels: LabelSet, scheme: Scheme, path: Path, log: ReadLog) -> None:
        self.labels, self.scheme, self.path, self.log = labels, scheme, path, log
        self._known: dict[str, str] = {}

    def iob2(self, tags: Sequence[str], numbers: Sequence[int]) -> Gold:
        """IOB2 tags of a post whose labels stand in the lines `numbers`."""
        try:
            resolved = [self._resolved(tag, number) for tag, number in zip(tags, numbers, strict=True)]
        except DataError:
            for tag in tags:
                if not self.labels.fits(tag, self.scheme):
                    self.log.unknown[tag] += 1
                elif tag != "O":
                    self.log.n_fitting += 1
            raise
        found = to_iob2(resolved, self.scheme)
        self.log.n_unclosed += found.n_unclosed
        return tuple(found.tags), found.n_orphans

    def type(self, name: str) -> str:
        """An entity's type with aliases resolved."""
        try:
            return self.labels.canonical_type(name)
        except DataError:
            self.log.unknown[name] += 1
            raise

    def _resolved(self, tag: str, number: int) -> str:
        if tag not in self._known:
            try:
                self._known[tag] = self.labels.canonical(tag, self.scheme)
            except DataError as error:
                raise moved(error, f"{self.path}:{number}") from None
        return self._known[tag]
