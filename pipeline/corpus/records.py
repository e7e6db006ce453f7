"""Shared by the readers: numbered lines, checked tags, the posts that they yield, and counts of problems."""

import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from schema.errors import DataError
from schema.labels import LabelSet, Scheme, to_iob2

_NOT_IN_IDS = re.compile(r"[\x00-\x1f\x7f/\\]")
_UNDECODED = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, by Python's surrogateescape


@dataclass(frozen=True, slots=True)
class RawPost:
    """A post as in its file: its id may repeat, its images have not been opened."""

    where: str  # file:line, for errors
    id: str
    words: tuple[str, ...]
    text: str
    offsets: tuple[tuple[int, int], ...]  # [start, end) characters of `text`, one per word
    tags: tuple[str, ...] | None  # IOB2, aliases resolved
    images: tuple[str, ...] = ()
    image_stem: str = ""  # CoNLL: an image's name, usually without its suffix
    n_orphans: int = 0  # tags of BIOES, BILOU and BMES that continue no entity: they became O


Reads = Iterator[Callable[[], RawPost | None]]  # functions that return a file's posts, in order; None: it is left out
Gold = tuple[tuple[str, ...] | None, int]  # IOB2 tags, and RawPost.n_orphans


@dataclass
class ReadLog:
    """Makes the ids of a dataset's posts unique, and counts what its readers met."""

    on_error: Callable[[DataError], None] | None = None  # gets the error of a malformed post; None: it is raised
    foreign_labels: bool = False  # read posts without labels that do not fit, instead of an error
    n_repeated: int = 0  # ids that occurred before and became `id~2`
    n_renamed: int = 0  # ids with characters that are not allowed in ids
    n_left_out: int = 0  # malformed posts
    n_without_gold: int = 0  # posts whose labels did not fit
    n_empty_words: int = 0  # rows of CoNLL with the label O and no word, which are skipped
    n_empty_posts: int = 0  # posts that have only such rows
    n_unclosed: int = 0  # entities of BIOES, BILOU and BMES without their last tag
    orphans: Counter[str] = field(default_factory=Counter)  # split -> sum of RawPost.n_orphans
    unknown: Counter[str] = field(default_factory=Counter)  # labels that did not fit
    n_fitting: int = 0  # labels other than O that fitted, in posts with labels that did not
    _next: dict[str, int] = field(default_factory=dict)

    def claim(self, given: str) -> str:
        """A unique id: a repeat becomes `id~2`, and each character that an id must not have becomes `_`."""
        name = _NOT_IN_IDS.sub("_", given)
        name = name if name.strip(".") else "_" * len(name)  # `.` and `..` are folders
        self.n_renamed += name != given
        unique, number = name, self._next.get(name, 2)
        while unique in self._next:  # another post may have the id `id~2` in its file
            unique, number = f"{name}~{number}", number + 1
        self.n_repeated += unique != name
        self._next[name] = number
        self._next.setdefault(unique, 2)
        return unique

    def gold(self, read: Callable[[], Gold]) -> Gold:
        """The labels that `read` returns; None if they do not fit and `foreign_labels` is set."""
        try:
            return read()
        except DataError:
            if not self.foreign_labels:
                raise
            self.n_without_gold += 1
            return None, 0

    def leave_out(self, error: DataError) -> None:
        """Count and report a malformed post, or raise its error."""
        if self.on_error is None:
            raise error
        self.n_left_out += 1
        self.on_error(error)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without byte order mark and ends (LF, CRLF; CR in a file without LF; never U+2028, U+0085).

    Bytes that are not UTF-8 become surrogates: see `checked_utf8`. Raises DataError for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            first = next(file, b"").removeprefix(codecs.BOM_UTF8)
            has_lf = first.endswith(b"\n")
            begin = [first] if has_lf else first.removesuffix(b"\r").split(b"\r") if first else []
            for number, line in enumerate(chain(begin, file), start=1):
                yield number, line.removesuffix(b"\n").removesuffix(b"\r" * has_lf).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise DataError("cannot be read", where=str(path), found=error.strerror or str(error)) from None


def checked_utf8(line: str, where: str) -> str:
    if not line.isascii() and (bad := _UNDECODED.search(line)):
        found = f"byte 0x{ord(bad[0]) - 0xDC00:02x} at {len(line[: bad.start()].encode('utf-8', 'surrogateescape'))}"
        raise DataError("not UTF-8", where=where, found=found, todo="save the file as UTF-8")
    return line


def moved(error: DataError, where: str) -> DataError:
    return DataError(error.what, where=where, found=error.found, todo=error.todo)


class TagReader:
    """Converts the labels of a file to IOB2, and checks them against a label set and a scheme."""

    def __init__(self, labels: LabelSet, scheme: Scheme, path: Path, log: ReadLog) -> None:
        self.labels, self.scheme, self.path, self.log = labels, scheme, path, log
        self._canonical: dict[str, str] = {}

    def iob2(self, tags: Sequence[str], numbers: Sequence[int]) -> Gold:
        for tag, number in zip(tags, numbers, strict=True):
            if tag not in self._canonical:  # each distinct label is checked once
                try:
                    self._canonical[tag] = self.labels.canonical(tag, self.scheme)
                except DataError as error:
                    unknown = [tag for tag in tags if not self.labels.fits(tag, self.scheme)]
                    self.log.unknown.update(unknown)
                    self.log.n_fitting += len(tags) - len(unknown) - tags.count("O")
                    raise moved(error, f"{self.path}:{number}") from None
        result, n_orphans, n_unclosed = to_iob2([self._canonical[tag] for tag in tags], self.scheme)
        self.log.n_unclosed += n_unclosed
        return tuple(result), n_orphans

    def type(self, name: str) -> str:
        try:
            return self.labels.canonical_type(name)
        except DataError:
            self.log.unknown[name] += 1
            raise
