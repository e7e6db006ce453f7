"""What both formats share: numbered lines, checked tags, and the raw post that a reader yields."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from schema.errors import DataError
from schema.labels import LabelSet, Scheme, to_iob2


@dataclass(frozen=True, slots=True)
class RawPost:
    """A post as its file gives it: `id` may repeat, `images` are names nobody has looked at."""

    where: str  # file:line, for errors
    id: str
    words: tuple[str, ...]
    text: str
    offsets: tuple[tuple[int, int], ...]  # [start, end) characters of `text`, one a word
    tags: tuple[str, ...] | None  # IOB2, aliases resolved
    images: tuple[str, ...] = ()
    image_stem: str = ""  # CoNLL: a picture's name, perhaps without its suffix


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their 1-based numbers, without the line end (LF or CRLF) and the byte order mark.

    Only LF ends a line: U+2028, U+0085 and the like occur inside words of real posts. Raises DataError for a file that
    cannot be read or a line that is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, _decoded(line, path, number)
    except OSError as error:
        raise DataError("cannot be read", where=str(path), found=error.strerror or str(error)) from None


def _decoded(line: bytes, path: Path, number: int) -> str:
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{line[error.start]:02x} at {error.start}"
        raise DataError("not UTF-8", where=f"{path}:{number}", found=found, todo="save the file as UTF-8") from None


def moved(error: DataError, where: str) -> DataError:
    """The same error, said to be at `where`."""
    return DataError(error.what, where=where, found=error.found, todo=error.todo)


class TagReader:
    """Checks tags against a label set and a scheme, and turns them into IOB2; each distinct tag is checked once."""

    def __init__(self, labels: LabelSet, scheme: Scheme) -> None:
        self.labels, self.scheme = labels, scheme
        self._known: dict[str, str] = {}

    def one(self, tag: str, path: Path, number: int) -> str:
        """The tag with aliases resolved; raises DataError with file:line."""
        if tag not in self._known:
            self._known[tag] = self._checked(tag, f"{path}:{number}")
        return self._known[tag]

    def iob2(self, tags: Sequence[str]) -> tuple[str, ...]:
        return tuple(to_iob2(tags, self.scheme))

    def _checked(self, tag: str, where: str) -> str:
        try:
            known = self.labels.canonical(tag)
        except DataError as error:
            raise moved(error, where) from None
        if self.scheme != "bioes" and known[0] in "ES":
            raise DataError(f"{tag!r} is no {self.scheme} tag", where=where, todo="set source.scheme: bioes")
        return known
