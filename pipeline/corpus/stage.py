"""Stage ingest: from a dataset's own files to `posts.parquet` and figures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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
from schema.lattice import CapCounter
from schema.records import Post, Split


@dataclass(frozen=True)
class IngestReport:
    counts: Counts
    labels: LabelSet
    variant: str  # the known variant that the data are, or ""
    corpus: str  # the paper's name of the data, or ""
    warning: str  # about an unknown version of a known corpus, or images that cannot be used; or ""
    log: ReadLog
    digests: dict[Split, str]
    cut: str = ""  # what the cap on objects will cut

    def rows(self) -> list[tuple[str, ...]]:
        return statistics.rows(self.counts, self.labels, self.corpus)

    def remarks(self) -> list[str]:
        log, counts = self.log, self.counts
        numbers = {
            "repeated id(s) became id~2 and so on; the given id is kept beside it": log.n_repeated,
            "id(s) contained a slash or control character, now _": log.n_renamed,
            "tag(s) continued no entity and became O": log.orphans.total(),
            "row(s) with the label O and no word were left out": log.n_empty_words,
            "post(s) with only such rows were left out": log.n_empty_posts,
            "entities lack their last tag (E-, L-)": log.n_unclosed,
        }
        remarks = [f"the data are the known variant {self.variant}"] if self.variant else []
        remarks += [f"warning: {one}" for one in (self.warning, self.cut) if one]
        remarks += [f"{number} {what}" for what, number in numbers.items() if number]
        for state, examples in counts.examples.items():
            more = ["..."] if len(examples) == statistics.N_EXAMPLES < counts.images(state) else []
            remarks += [f"{counts.images(state)} image(s) {state}: {'; '.join([*examples, *more])}"] if examples else []
        return remarks

    def line(self, dataset: str) -> str:
        states = ", ".join(f"{self.counts.images(state)} {state}" for state in statistics.STATES)
        return f"ingest {dataset}: {self.counts.total('n_posts')} rows; images: {states}"


def survey(
    config: SourceConfig, folder: Path, progress: Progress = silent, observe: Callable[[Post], None] | None = None
) -> IngestReport:
    """Count what is in the files of a dataset's folder; `observe` is called with each post.

    Raises DataError with file:line for malformed posts, ConfigError for a missing file.
    """
    paths = config.paths(folder)
    images, log = ImageFolder(folder / config.images, config.image_suffix), ReadLog()
    total = sum(count_posts(path, config) for path in paths.values())

    def observed() -> Iterator[Post]:
        for done, post in enumerate(read_dataset(config, paths, images, log), start=1):
            if observe:
                observe(post)
            yield post
            progress(done, max(total, done))

    counts = statistics.count(observed())
    for split, path in paths.items():
        if split not in counts.splits:
            raise DataError("no posts", where=str(path), todo=f"add posts, or remove {split} from source.files")
    if config.split and "dev" not in counts.splits:
        raise DataError("split.dev left no post for dev", where=str(paths["train"]), todo="set a larger share")
    for name, n_orphans in log.orphans.items():
        counts.splits[name].n_orphans += n_orphans  # IOB2 cannot express them
    digests = {split: keys.digest_file(path) for split, path in paths.items()}
    is_whole = not (config.first or config.split)  # a part of a known corpus is not that corpus
    variant = variants.variant(digests) if is_whole else ""
    corpus = variants.corpus(variant, folder.name) if is_whole else ""
    warning = "; ".join(filter(None, (variants.warning(digests, corpus), counts.image_warning())))
    return IngestReport(counts, config.label_set(), variant, corpus, warning, log, digests)


def run(
    config: SourceConfig, folder: Path, out: Path, progress: Progress = silent, cap: CapCounter | None = None
) -> IngestReport:
    """Publish the posts of a dataset's folder as `out`; `cap` counts what it will cut. Raises as `survey` does."""
    report = survey(config, folder, progress, cap.add if cap else None)
    paths, images = config.paths(folder), ImageFolder(folder / config.images, config.image_suffix)
    meta = {
        "sources": {split: {"file": config.files[split], "sha256": report.digests[split]} for split in paths},
        "source": config.reading(),
        "variant": report.variant,
        "warning": report.warning,
        "synthetic": report.counts.synthetic,
        "counts": report.counts.to_json(),
        "repeated_ids": report.log.n_repeated,
        "renamed_ids": report.log.n_renamed,
    }
    tables.write_posts(out, read_dataset(config, paths, images), report.labels, meta)
    return replace(report, cut=cap.message() if cap else "")
