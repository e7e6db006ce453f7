"""Stage ingest: a dataset's own files become `posts.parquet`, and its figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cache import keys, tables
from pipeline.corpus import statistics, variants
from pipeline.corpus.config import SourceConfig
from pipeline.corpus.reader import ImageFolder, count_posts, read_dataset
from pipeline.corpus.records import ReadLog
from pipeline.corpus.statistics import Counts
from pipeline.engine import Progress, silent
from schema.errors import DataError
from schema.labels import LabelSet
from schema.records import Post


@dataclass(frozen=True)
class IngestReport:
    """Figures of a dataset, and what its owner should know about it."""

    counts: Counts
    labels: LabelSet
    variant: str  # known name of the data, "" for any other
    corpus: str  # the paper's name of it, "" if it is none of the paper's
    warning: str  # what a reader of the scores must know: another version of a known corpus, images that cannot be used
    log: ReadLog

    def rows(self) -> list[tuple[str, ...]]:
        """A table, heading first, like the paper's Table 1."""
        return statistics.rows(self.counts, self.labels, self.corpus)

    def remarks(self) -> list[str]:
        """Peculiarities of the data, one per line."""
        log = self.log
        lines = [
            (self.variant, f"the data are the known variant {self.variant}"),
            (self.warning, f"warning: {self.warning}"),
            (log.n_repeated, f"{log.n_repeated} repeated id(s) became id~2 and so on; the given id is kept beside it"),
            (log.n_renamed, f"{log.n_renamed} id(s) contained a slash or control character, now _"),
            (log.orphans.total(), f"{log.orphans.total()} tag(s) continued no entity and became O"),
            (log.n_empty_words, f"{log.n_empty_words} row(s) with the label O and no word were left out"),
            (log.n_empty_posts, f"{log.n_empty_posts} post(s) of such rows alone were left out"),
            (log.n_unclosed, f"{log.n_unclosed} entities lack their last tag (E-, L-)"),
        ]
        return [line for holds, line in lines if holds] + [
            f"{self.counts.images(state)} image(s) {state}: {self.counts.shown(state)}"
            for state, examples in self.counts.examples.items()
            if examples
        ]

    def line(self, dataset: str) -> str:
        states = ", ".join(f"{self.counts.images(state)} {state}" for state in statistics.STATES)
        return f"ingest {dataset}: {self.counts.total('n_posts')} rows; images: {states}"


def run(config: SourceConfig, folder: Path, out: Path, progress: Progress = silent) -> IngestReport:
    """Read the files of a dataset's folder and publish `out`.

    Files are read twice, to count and to write, so memory holds the images' records but never all posts. Raises
    DataError with file:line for what breaks the format, ConfigError for a file that params name and is not there.
    """
    paths = config.paths(folder)
    images, log = ImageFolder(folder / config.images, config.image_suffix), ReadLog()
    total = sum(count_posts(path, config) for path in paths.values())
    counts = statistics.count(_watched(read_dataset(config, paths, images, log), progress, total))
    for split, path in paths.items():
        if split not in counts.splits:
            raise DataError("no post in this file", where=str(path), todo=f"or leave {split} out of source.files")
    if config.split and "dev" not in counts.splits:
        raise DataError("split.dev left no post for dev", where=str(paths["train"]), todo="set a larger share")
    counts.add_orphans(log.orphans)
    digests = {split: keys.digest_file(path) for split, path in paths.items()}
    whole = not (config.first or config.split)  # a part of a known corpus is not that corpus
    variant = variants.variant(digests) if whole else ""
    corpus = variants.corpus(variant, folder.name) if whole else ""
    warning = "; ".join(filter(None, (variants.warning(digests, corpus), counts.image_warning())))
    labels = config.label_set()
    meta = {
        "sources": {split: {"file": config.files[split], "sha256": digests[split]} for split in paths},
        "source": config.reading(),
        "variant": variant,
        "warning": warning,
        "synthetic": counts.synthetic,
        "counts": counts.to_json(),
        "repeated_ids": log.n_repeated,
        "renamed_ids": log.n_renamed,
    }
    tables.write_posts(out, read_dataset(config, paths, images), labels, meta)
    return IngestReport(counts, labels, variant, corpus, warning, log)


def _watched(posts: Iterator[Post], progress: Progress, total: int) -> Iterator[Post]:
    done = 0
    for done, post in enumerate(posts, start=1):
        yield post
        progress(done, max(total, done))
    progress(done, max(total, done))
