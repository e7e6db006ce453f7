"""Files of either format as posts: ids made unique, pictures probed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from pipeline.corpus import conll, jsonl
from pipeline.corpus.config import SourceConfig
from pipeline.corpus.records import RawPost, moved
from schema.errors import DataError
from schema.records import Image, Post, Split
from vision import images

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")  # tried for a CoNLL id, in this order
CHUNK_POSTS = 256  # posts read ahead, so that their pictures are probed side by side
N_THREADS = min(8, os.cpu_count() or 1)  # for probing: reading and decoding mostly run outside Python's lock
_NOT_IN_IDS = re.compile(r"[\x00-\x1f\x7f/\\]")


class Ids:
    """Ids of a dataset, each once: a repeat becomes `id~2`; what cannot be part of an id becomes `_`."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}
        self.n_repeated = 0
        self.n_renamed = 0

    def claim(self, written: str) -> str:
        name = _NOT_IN_IDS.sub("_", written)
        name = name if name.strip(".") else "_" * len(name)  # `.` and `..` are folders
        self.n_renamed += name != written
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


class Gallery:
    """Pictures of a folder, each distinct file probed once; without a folder every picture is missing."""

    def __init__(self, folder: Path | None, suffix: str = ".jpg") -> None:
        self.folder = folder
        self._there = folder is not None and folder.is_dir()
        self._suffixes = tuple(dict.fromkeys((suffix, *SUFFIXES)))
        self._probed: dict[str, Image] = {}
        self._names: dict[str, str] = {}

    def name(self, stem: str) -> str:
        """File name of a picture given perhaps without its suffix: the first that exists, else the first."""
        if stem not in self._names:
            self._names[stem] = stem if stem.lower().endswith(SUFFIXES) else stem + self._suffix(stem)
        return self._names[stem]

    def _suffix(self, stem: str) -> str:
        if self.folder is not None and self._there and ".." not in Path(stem).parts and not stem.startswith("/"):
            for suffix in self._suffixes:
                if _exists(self.folder / (stem + suffix)):
                    return suffix
        return self._suffixes[0]

    def look(self, names: Iterable[str]) -> None:
        """Probe those that nobody has looked at yet."""
        new = [name for name in dict.fromkeys(names) if name not in self._probed]
        folder = self.folder
        if folder is None or not self._there:  # a name with a slash may lead out of the folder: refused all the same
            plain = [name for name in new if folder is None or "/" not in name]
            self._probed |= {name: Image(name, state="missing", reason="no folder of pictures") for name in plain}
            new = [name for name in new if name not in self._probed]
        if new and folder is not None:
            with ThreadPoolExecutor(N_THREADS) as pool:
                self._probed |= zip(new, pool.map(lambda name: images.probe(folder, name), new), strict=True)

    def __getitem__(self, name: str) -> Image:
        return self._probed[name]


def read_posts_file(
    path: Path, source: SourceConfig, split: Split, gallery: Gallery | None = None, ids: Ids | None = None
) -> Iterator[Post]:
    """Posts of one file in its order, read as they are asked for.

    `gallery` holds the pictures (None: all of them are missing), `ids` the ids given so far to the dataset's other
    files. A CoNLL id names its picture, a repeat's too. Raises DataError with file:line.
    """
    raws = islice((conll if source.format == "conll" else jsonl).read(path, source), source.first)
    return probed(raws, split, gallery or Gallery(None, source.image_suffix), ids or Ids())


def probed(raws: Iterator[RawPost], split: Split, gallery: Gallery, ids: Ids) -> Iterator[Post]:
    """Raw posts with ids of their own and their pictures looked at, in order."""
    while chunk := list(islice(raws, CHUNK_POSTS)):
        names = [raw.images or ((gallery.name(raw.image_stem),) if raw.image_stem else ()) for raw in chunk]
        gallery.look(name for some in names for name in some)
        for raw, some in zip(chunk, names, strict=True):
            yield _post(raw, ids.claim(raw.id), split, [gallery[name] for name in some])


def count_posts(path: Path, source: SourceConfig) -> int:
    """How many posts of a well-formed file are read, without reading them: for progress."""
    with path.open("rb") as file:
        heads = (line for line in file if (conll.is_head(line) if source.format == "conll" else line.strip()))
        return sum(1 for _ in islice(heads, source.first))


def _post(raw: RawPost, post_id: str, split: Split, found: Sequence[Image]) -> Post:
    try:
        return Post(post_id, split, raw.words, raw.text, raw.offsets, raw.tags, tuple(found))
    except DataError as error:
        raise moved(error, raw.where) from None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than the file system takes: probing says so
        return False
