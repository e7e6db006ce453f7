"""Stage ingest: a dataset's own files become `posts.parquet`, and its figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cache import keys, tables
from pipeline.corpus import statistics, variants
from pipeline.corpus.config import SourceConfig
from pipeline.corpus.reader import Gallery, Ids, count_posts, read_posts_file
from pipeline.corpus.statistics import Counts
from pipeline.engine import Progress, silent
from schema.errors import DataError
from schema.labels import LabelSet
from schema.records import Post, Split


@dataclass(frozen=True)
class IngestReport:
    """What ingest found: figures, and what somebody should know about the data."""

    counts: Counts
    labels: LabelSet
    variant: str  # known name of the data, "" for any other
    corpus: str  # the paper's name of it, "" if it is none of the paper's
    warning: str  # what a reader of the scores must know: another version of a known corpus, images that cannot be used
    n_repeated: int  # ids that occurred before and became `id~2`
    n_renamed: int  # ids with characters that an id cannot hold

    def rows(self) -> list[tuple[str, ...]]:
        """A table, heading first, like the paper's Table 1."""
        return statistics.rows(self.counts, self.labels, self.corpus)

    def remarks(self) -> list[str]:
        """What is odd, a line each; nothing for data without oddities."""
        told = [
            (bool(self.variant), f"the data are the known variant {self.variant}"),
            (bool(self.warning), f"warning: {self.warning}"),
            (self.n_repeated > 0, f"{self.n_repeated} repeated id(s) became id~2 and so on"),
            (self.n_renamed > 0, f"{self.n_renamed} id(s) held a slash or control, now _"),
        ]
        lines = [line for holds, line in told if holds]
        for state, examples in self.counts.examples.items():
            if examples:
                number = self.counts.images(state)
                more = "; ..." if len(examples) == statistics.N_EXAMPLES < number else ""
                lines.append(f"{number} picture(s) {state}: {'; '.join(examples)}{more}")
        return lines

    def line(self, dataset: str) -> str:
        states = ", ".join(f"{self.counts.images(state)} {state}" for state in statistics.STATES)
        return f"ingest {dataset}: {self.counts.total('n_posts')} rows; pictures: {states}"


def run(config: SourceConfig, folder: Path, out: Path, progress: Progress = silent) -> IngestReport:
    """Read the files of a dataset's folder and publish `out`.

    Files are read twice, to count and to write, so memory holds the pictures' records but never all posts. Raises
    DataError with file:line for what breaks the format, ConfigError for a file that params name and is not there.
    """
    paths = config.paths(folder)
    gallery = Gallery(folder / config.images, config.image_suffix)
    ids = Ids()
    total = sum(count_posts(path, config) for path in paths.values())
    found = statistics.count(_watched(_posts(config, paths, gallery, ids), progress, total))
    for split, path in paths.items():
        if split not in found.splits:
            raise DataError("no post in this file", where=str(path), todo=f"or leave {split} out of source.files")
    digests = {split: keys.digest_file(path) for split, path in paths.items()}
    variant = "" if config.first else variants.variant(digests.values())  # a shard is not the corpus it is of
    corpus = "" if config.first else variants.corpus(variant, folder.name)
    warning = "; ".join(filter(None, (variants.warning(digests, corpus), found.image_warning())))
    labels = config.label_set()
    meta = {
        "sources": {split: {"file": config.files[split], "sha256": digests[split]} for split in paths},
        "variant": variant,
        "warning": warning,
        "synthetic": found.synthetic,
        "counts": found.to_json(),
        "repeated_ids": ids.n_repeated,
        "renamed_ids": ids.n_renamed,
    }
    tables.write_posts(out, _posts(config, paths, gallery, Ids()), labels, meta)
    return IngestReport(found, labels, variant, corpus, warning, ids.n_repeated, ids.n_renamed)


def _posts(config: SourceConfig, paths: dict[Split, Path], gallery: Gallery, ids: Ids) -> Iterator[Post]:
    for split, path in paths.items():
        yield from read_posts_file(path, config, split, gallery, ids)


def _watched(posts: Iterator[Post], progress: Progress, total: int) -> Iterator[Post]:
    done = 0
    for done, post in enumerate(posts, start=1):
        yield post
        progress(done, max(total, done))
    progress(done, max(total, done))
