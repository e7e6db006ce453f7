"""Files of any format as posts: ids made unique, images opened, and a dev split cut where the settings ask for one."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path, PurePosixPath

from pipeline.corpus import conll, jsonl
from pipeline.corpus.config import SourceConfig, SplitConfig
from pipeline.corpus.records import RawPost, ReadLog, moved
from schema.errors import DataError
from schema.records import Image, Post, Split
from vision import images

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")  # tried for a name without one, in this order
CHUNK_POSTS = 256  # posts read ahead, so that their images are decoded in parallel
N_THREADS = min(8, os.cpu_count() or 1)  # reading and decoding mostly run outside Python's lock
FORMATS: Mapping[str, Callable[[Path, SourceConfig, ReadLog], Iterator[Callable[[], RawPost | None]]]] = {
    "conll": conll.posts,
    "jsonl": jsonl.posts,
    "text": jsonl.texts,
}


class ImageFolder:
    """Images of a folder, each distinct file decoded once; without a folder every image is missing.

    A name from the data means the file of exactly that name; without one, a file that differs in the case of its
    suffix, in `.jpeg` for `.jpg`, or in Unicode normalization, or that adds a suffix.
    """

    def __init__(self, folder: Path | None, suffix: str = ".jpg") -> None:
        self.folder = folder if folder is not None and folder.is_dir() else None
        self._place = folder  # a name may be refused even where there is no folder
        self._suffixes = tuple(dict.fromkeys((suffix, *SUFFIXES)))
        self._images: dict[str, Image] = {}
        self._names: dict[str, str | None] = {}
        self._listings: dict[str, tuple[set[str], dict[str, str]]] = {}

    def names(self, raw: RawPost) -> tuple[str, ...]:
        """File names of a post's images."""
        if not raw.image_stem:
            return tuple(self._found(name) or name for name in raw.images)
        suffix = "" if raw.image_stem.lower().endswith(SUFFIXES) else self._suffixes[0]
        return (self._found(raw.image_stem) or raw.image_stem + suffix,)

    def open(self, names: Iterable[str]) -> None:
        """Decode the images that have not been decoded yet."""
        new = [name for name in dict.fromkeys(names) if name not in self._images]
        if self.folder is None:  # a name that leaves the folder is refused all the same
            plain = [name for name in new if self._place is None or "/" not in name]
            self._images |= {name: Image(name, state="missing", reason="no folder of images") for name in plain}
            new = [name for name in new if name not in self._images]
        folder = self._place
        if new and folder is not None:
            with ThreadPoolExecutor(N_THREADS) as pool:
                self._images |= zip(new, pool.map(lambda name: images.probe(folder, name), new), strict=True)

    def __getitem__(self, name: str) -> Image:
        return self._images[name]

    def _found(self, name: str) -> str | None:
        if name not in self._names:
            self._names[name] = self._search(name)
        return self._names[name]

    def _search(self, name: str) -> str | None:
        """The name of the file that is meant, None where there is none."""
        path = PurePosixPath(name)
        if self.folder is None or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            return None
        exact, folded = self._listing(path.parent.as_posix())
        if path.name in exact:
            return name
        for suffix in ("",) if name.lower().endswith(SUFFIXES) else ("", *self._suffixes):
            if found := folded.get(_folded(path.name + suffix)):
                return (path.parent / found).as_posix()
        return None

    def _listing(self, inner: str) -> tuple[set[str], dict[str, str]]:
        """Names of the files of a folder in the image folder, and those names by their folded form."""
        if inner not in self._listings:
            try:
                with os.scandir(Path(self.folder or "", inner)) as entries:
                    names = sorted((entry.name for entry in entries if not _is_folder(entry)), reverse=True)
            except OSError:
                names = []
            self._listings[inner] = set(names), {_folded(name): name for name in names}  # the first of equal ones
        return self._listings[inner]


def read_dataset(
    source: SourceConfig, paths: Mapping[Split, Path], folder: ImageFolder, log: ReadLog | None = None
) -> Iterator[Post]:
    """Posts of a dataset's files, split by split, read as they are asked for. Raises DataError with file:line."""
    log = log or ReadLog()
    for split, path in paths.items():
        cut = source.split if split == "train" else None
        yield from read_file(path, source, split, folder, log, cut)


def read_file(
    path: Path,
    source: SourceConfig,
    split: Split,
    folder: ImageFolder | None = None,
    log: ReadLog | None = None,
    cut: SplitConfig | None = None,
) -> Iterator[Post]:
    """Posts of one file in its order. `folder` holds the images (None: all are missing), `cut` makes some posts dev."""
    log = log or ReadLog()
    reads = islice(FORMATS[source.format](path, source, log), source.first)
    return with_images(reads, split, folder or ImageFolder(None, source.image_suffix), log, cut)


def with_images(
    reads: Iterator[Callable[[], RawPost | None]],
    split: Split,
    folder: ImageFolder,
    log: ReadLog,
    cut: SplitConfig | None = None,
) -> Iterator[Post]:
    """Posts with unique ids and opened images, in order."""
    while chunk := list(islice(reads, CHUNK_POSTS)):
        raws = [raw for read in chunk if (raw := _read(read, log))]
        names = [folder.names(raw) for raw in raws]
        folder.open(name for some in names for name in some)
        for raw, some in zip(raws, names, strict=True):
            try:
                yield _post(raw, _split(raw.id, split, cut), [folder[name] for name in some], log)
            except DataError as error:
                log.leave_out(moved(error, raw.where))


def count_posts(path: Path, source: SourceConfig) -> int:
    """How many posts of a well-formed file are read, without reading them: for progress."""
    count = conll.count(path) if source.format == "conll" else jsonl.count(path)
    return min(count, source.first or count)


def _read(read: Callable[[], RawPost | None], log: ReadLog) -> RawPost | None:
    try:
        return read()
    except DataError as error:
        log.leave_out(error)
        return None


def _post(raw: RawPost, split: Split, found: list[Image], log: ReadLog) -> Post:
    post_id = log.claim(raw.id)
    log.orphans[split] += raw.n_orphans
    source_id = raw.id if raw.id != post_id else None
    return Post(post_id, split, raw.words, raw.text, raw.offsets, raw.tags, tuple(found), source_id)


def _split(given_id: str, split: Split, cut: SplitConfig | None) -> Split:
    """dev for the share of ids that `cut` asks for; equal ids stay together."""
    if cut is None:
        return split
    digest = hashlib.sha256(f"{cut.seed}\0{given_id}".encode("utf-8", "surrogatepass")).digest()
    return "dev" if int.from_bytes(digest[:8], "big") < cut.dev * 2**64 else split


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _folded(name: str) -> str:
    """A name without what file systems and people write differently: normalization, and the case of the suffix."""
    stem, dot, suffix = unicodedata.normalize("NFC", name).rpartition(".")
    suffix = suffix.lower()
    return f"{stem}{dot}{'jpg' if suffix == 'jpeg' else suffix}"
