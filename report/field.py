"""The field: which runs there are of which approach, dataset and seed, and their scores and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache.tables import Posts, read_posts
from report.runs import Line, read_metrics, read_predictions
from schema.errors import RunError
from schema.labels import entities
from schema.records import Split

Key = tuple[str, str, int]  # dataset, approach, seed
TEXT_ONLY = "bert-crf"  # what Figure 4 measures the others against


@dataclass(frozen=True)
class Field:
    """Runs that are trained with today's settings and scored, and why others are not.

    `posts` is each dataset's posts.parquet; `missing` says of (dataset, approach) why it has no run; `crossings` are
    pairs (trained on, scored on); `notes` are remarks on a dataset. `approaches` stand in the order of the tables.
    """

    posts: Mapping[str, Path]
    runs: Mapping[Key, Path]
    approaches: tuple[str, ...]
    seeds: tuple[int, ...]
    missing: Mapping[tuple[str, str], str] = field(default_factory=dict)
    crossings: tuple[tuple[str, str], ...] = ()
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tiny: bool = False
    splits: tuple[str, ...] = ("dev", "test")  # those that runs were scored on
    _read: dict[Path, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def datasets(self) -> tuple[str, ...]:
        return tuple(self.posts)

    def table(self, dataset: str) -> Posts:
        """The dataset's posts and labels."""
        path = self.posts[dataset]
        if path not in self._read:
            self._read[path] = read_posts(path)
        return self._read[path]

    def types(self, dataset: str) -> tuple[str, ...]:
        return self.table(dataset).labels.types

    def split(self, dataset: str) -> Split:
        """The split that tables are about: test where it has labels and is scored, else dev."""
        has_test = any(post.split == "test" and post.tags is not None for post in self.table(dataset).posts)
        return "test" if has_test and "test" in self.splits else "dev"

    def of(self, dataset: str, approach: str) -> dict[int, Path]:
        """Folders of an approach's runs by seed."""
        return {seed: path for seed in self.seeds if (path := self.runs.get((dataset, approach, seed)))}

    def present(self, dataset: str) -> list[str]:
        """Approaches that have a run on a dataset."""
        return [name for name in self.approaches if self.of(dataset, name)]

    def metrics(self, dataset: str, approach: str, scored_on: str | None = None) -> dict[int, dict[str, Any]]:
        """Metrics by seed on the split that the tables are about; those that were not scored are left out."""
        where = scored_on or dataset
        found = {}
        for seed, run in self.of(dataset, approach).items():
            path = scored_in(run, dataset, where) / "scores" / f"metrics-{self.split(where)}.json"
            if path.is_file():
                found[seed] = read_metrics(path)
        return found

    def lines(self, dataset: str, approach: str, seed: int) -> list[Line]:
        """Labelled posts with the run's predictions; raises RunError for a run that was not scored."""
        run = self.runs[dataset, approach, seed]
        path = run / "scores" / f"predictions-{self.split(dataset)}.jsonl"
        if path not in self._read:
            if not path.is_file():
                raise RunError("not scored", where=str(path), todo="run `fmit tables` again, the step train included")
            self._read[path] = [line for line in read_predictions(path) if line.gold is not None]
        return self._read[path]

    def known_entities(self, dataset: str) -> frozenset[str]:
        """Texts of the entities of the training posts, without regard to case."""
        found = set()
        for post in self.table(dataset).posts:
            if post.split == "train" and post.tags is not None:
                for one in entities(post.tags):
                    found.add(" ".join(post.words[one.span.start : one.span.end]).casefold())
        return frozenset(found)

    def why(self, dataset: str, approach: str) -> str:
        """Why a row has no figures of ours; "" where it has all."""
        n = len(self.of(dataset, approach)) if dataset in self.posts else 0
        if n == len(self.seeds) and n:
            return ""
        if n:
            reason = self.missing.get((dataset, approach))
            return f"{n} of {len(self.seeds)} seeds" + (f": {reason}" if reason else "")
        default = "not asked for" if dataset in self.posts else f"{dataset} is not among the tables' datasets"
        return f"not run: {self.missing.get((dataset, approach), default)}"


def scored_in(run: Path, dataset: str, scored_on: str) -> Path:
    """The folder whose `scores` are a run's on a dataset: the run's, or crossed/DATASET-to-OTHER/RUN beside `runs`."""
    return run if scored_on == dataset else run.parent.parent / "crossed" / f"{dataset}-to-{scored_on}" / run.name
