"""Example runs on an example dataset: posts, and predictions that are wrong in the posts that a test names."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache.tables import write_posts
from report.runs import RunSet
from schema.labels import LabelSet, to_tags
from schema.records import Entity, Image, Post, Span, joined
from tests.report.examples import LABELS, Maker, write_run

Wrong = Mapping[str, set[int]]  # approach -> numbers of the test posts in which it finds nothing


def make_runs(root: Path, wrong: Wrong, *, seeds: tuple[int, ...] = (0,), n_test: int = 6, **values: Any) -> RunSet:
    """One run for each approach and seed on the dataset `made`; errors are the same for every seed."""
    maker = Maker(4)
    train = [maker.post(at, "train", error_rate=0.0) for at in range(5)]
    test = [maker.post(at, "test", error_rate=0.0) for at in range(n_test)]
    posts = write_made_posts(root / "posts.parquet", [*train, *test])
    runs = {}
    for approach, numbers in wrong.items():
        for seed in seeds:
            lines = copy.deepcopy(test)
            for number in numbers:
                lines[number]["entities"] = []
            run = write_run(root / "runs" / f"made-{approach}-{seed}", {"test": lines})
            runs["made", approach, seed] = {"made": run / "scores"}
    names = values.pop("approaches", tuple(wrong))
    return RunSet({"made": posts}, runs, names, **values)


def write_made_posts(path: Path, lines: list[dict[str, Any]]) -> Path:
    """posts.parquet of lines of predictions."""
    write_posts(path, [made_post(line) for line in lines], LabelSet(LABELS, {}), {})
    return path


def made_post(line: Mapping[str, Any]) -> Post:
    words = tuple(line["words"])
    gold = [Entity(Span(one["start"], one["end"]), one["type"]) for one in line["gold"]]
    images = tuple(Image(**one) for one in line["images"])
    return Post(line["id"], line["split"], words, *joined(words), tuple(to_tags(len(words), gold)), images)
