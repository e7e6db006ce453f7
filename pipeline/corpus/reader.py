"""Files of any format as posts: ids made unique, images opened, and a dev split cut if the settings say so."""

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path, PurePosixPath

from pipeline.corpus import conll, jsonl
from pipeline.corpus.config import SourceConfig, SplitConfig
from pipeline.corpus.records import RawPost, ReadLog, Reads, moved
from schema.errors import DataError
from schema.records import Image, Post, Split
from vision import images

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")  # tried for a name without one, in this order
CHUNK_POSTS = 256  # posts read ahead, so that their images are decoded in parallel
N_THREADS = min(8, os.cpu_count() or 1)  # reading and decoding mostly run outside Python's lock
FORMATS: Mapping[str, Callable[[Path, SourceConfig, ReadLog], Reads]] = {
    "conll": conll.posts,
    "jsonl": jsonl.posts,
    "text": jsonl.texts,
}


class ImageFolder:
    """Images of a folder, each distinct file decoded once; without a folder every image is missing.

    A name may differ from its file's in Unicode normalization, the case of the suffix, `.jpeg` for `.jpg`, or lack it.
    """

    def __init__(self, folder: Path | None, suffix: str = ".jpg") -> None:
        self.folder = folder if folder is not None and folder.is_dir() else None
        self._path = folder  # a name may be refused even if there is no folder
        self._suffixes = tuple(dict.fromkeys((suffix, *SUFFIXES)))
        self._images: dict[str, Image] = {}
        self._names: dict[str, str] = {}  # a name in the data: the name of its file
        self._listings: dict[str, tuple[set[str], dict[str, str]]] = {}  # see _listing

    def open(self, raws: Sequence[RawPost]) -> list[tuple[Image, ...]]:
        names = [self._file_names(raw) for raw in raws]
        new = [name for name in dict.fromkeys(chain.from_iterable(names)) if name not in self._images]

        def opened(name: str) -> Image:
            if self._path is None or (self.folder is None and "/" not in name):  # others may leave the folder
                return Image(name, state="missing", reason="no folder of images")
            return images.probe(self._path, name)

        with ThreadPoolExecutor(N_THREADS) as pool:
            self._images |= zip(new, pool.map(opened, new), strict=True)
        return [tuple(self._images[name] for name in some) for some in names]

    def _file_names(self, raw: RawPost) -> list[str]:
        written, suffix = raw.images, ""
        if raw.image_stem:
            written, suffix = (raw.image_stem,), "" if raw.image_stem.lower().endswith(SUFFIXES) else self._suffixes[0]
        for name in written:
            if name not in self._names:
                self._names[name] = self._search(name) or name + suffix
        return [self._names[name] for name in written]

    def _search(self, name: str) -> str | None:
        path = PurePosixPath(name)
        if self.folder is None or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            return None
        exact, folded = self._listing(path.parent.as_posix())
        if path.name in exact:
            return name
        for suffix in ("",) if name.lower().endswith(SUFFIXES) else ("", *self._suffixes):
            if file := folded.get(_folded(path.name + suffix)):
                return (path.parent / file).as_posix()
        return None

    def _listing(self, inner: str) -> tuple[set[str], dict[str, str]]:
        """Names of the files in a subfolder of the image folder, and the same names by their folded form."""
        if inner not in self._listings:
            _, _, names = next(os.walk(Path(self.folder or "", inner)), ("", [], []))
            self._listings[inner] = set(names), {_folded(name): name for name in sorted(names, reverse=True)}
        return self._listings[inner]


def read_dataset(
    source: SourceConfig, paths: Mapping[Split, Path], folder: ImageFolder, log: ReadLog | None = None
) -> Iterator[Post]:
    """Posts of a dataset's files, split by split, read lazily. Raises DataError with file:line."""
    log = log or ReadLog()
    for split, path in paths.items():
        yield from read_file(path, source, split, folder, log, source.split if split == "train" else None)


def read_file(
    path: Path,
    source: SourceConfig,
    split: Split,
    folder: ImageFolder | None = None,
    log: ReadLog | None = None,
    cut: SplitConfig | None = None,
) -> Iterator[Post]:
    """Posts of one file, in order. `folder`: the images (None: all are missing); `cut`: makes some posts dev."""
    log, folder = log or ReadLog(), folder or ImageFolder(None, source.image_suffix)
    return with_images(islice(FORMATS[source.format](path, source, log), source.first), split, folder, log, cut)


def with_images(
    reads: Reads, split: Split, folder: ImageFolder, log: ReadLog, cut: SplitConfig | None = None
) -> Iterator[Post]:
    while chunk := list(islice(reads, CHUNK_POSTS)):
        raws: list[RawPost] = []
        for read in chunk:
            try:
                raws += filter(None, [read()])
            except DataError as error:
                log.leave_out(error)
        for raw, opened in zip(raws, folder.open(raws), strict=True):
            part: Split = "dev" if cut and _is_cut(raw.id, cut) else split
            post_id = log.claim(raw.id)
            log.orphans[part] += raw.n_orphans
            source_id = raw.id if raw.id != post_id else None
            try:
                yield Post(post_id, part, raw.words, raw.text, raw.offsets, raw.tags, opened, source_id)
            except DataError as error:
                log.leave_out(moved(error, raw.where))


def count_posts(path: Path, source: SourceConfig) -> int:
    """How many posts of a well-formed file are read, for progress."""
    if source.format == "conll":
        n_posts = conll.count(path)
    else:
        with path.open("rb") as file:
            n_posts = sum(1 for line in file if line.strip())
    return min(n_posts, source.first or n_posts)


def _is_cut(given_id: str, cut: SplitConfig) -> bool:
    """Whether a post of train goes to dev; posts with equal ids stay together."""
    digest = hashlib.sha256(f"{cut.seed}\0{given_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < cut.dev * 2**64


def _folded(name: str) -> str:
    """A name without the differences that an image's name may have: see ImageFolder."""
    stem, dot, suffix = unicodedata.normalize("NFC", name).rpartition(".")
    return f"{stem}{dot}{'jpg' if suffix.lower() == 'jpeg' else suffix.lower()}"
