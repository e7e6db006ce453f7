"""Files of an evaluation say what the predictions in them say."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from cache.tables import read_posts, write_posts
from model import evaluate
from schema.errors import DataError
from schema.labels import LabelSet


@pytest.fixture(scope="module")
def scored(run_folder: Path, dataset: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scored") / "run"
    shutil.copytree(run_folder, folder)
    evaluate.run(folder, *dataset, ["dev", "test", "predict"], device="cpu")
    return folder


def lines(folder: Path, split: str) -> list[dict[str, list[dict[str, int | str]]]]:
    text = (folder / "scores" / f"predictions-{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def spans(entities: list[dict[str, int | str]]) -> set[tuple[object, ...]]:
    return {(one["start"], one["end"], one["type"]) for one in entities}


@pytest.mark.parametrize("split", ["dev", "test"])
def test_scores_equal_a_count_over_the_lines(scored: Path, split: str) -> None:
    counts: Counter[str] = Counter()
    for line in lines(scored, split):
        gold, found = spans(line["gold"]), spans(line["entities"])
        counts.update(n_gold=len(gold), n_predicted=len(found), n_correct=len(gold & found))
    metrics = json.loads((scored / "scores" / f"metrics-{split}.json").read_text())
    micro = metrics["strict"]["micro"]
    assert {name: micro[name] for name in counts} == counts
    assert micro["f1"] == pytest.approx(2 * counts["n_correct"] / (counts["n_gold"] + counts["n_predicted"]))
    assert set(metrics["strict"]["types"]) == {"PER", "LOC"}
    assert (metrics["split"], metrics["n_posts"], metrics["synthetic"]) == (split, 8, True)
    summary = json.loads((scored / "metrics.json").read_text())
    assert set(summary) == {"dev", "test"}  # no post is in "predict"
    assert summary[split] == {name: micro[name] for name in ("f1", "precision", "recall")}


def test_dev_scores_equal_those_of_training(scored: Path) -> None:
    summary = json.loads((scored / "metrics.json").read_text())
    info = json.loads((scored / "model" / "config.json").read_text())
    assert summary["dev"]["f1"] == pytest.approx(info["dev"]["dev_f1"], abs=1e-12)


def test_confusion_has_a_row_a_word(scored: Path) -> None:
    with (scored / "confusion.csv").open() as file:
        rows = Counter((row["actual"], row["predicted"]) for row in csv.DictReader(file))
    expected: Counter[tuple[str, str]] = Counter()
    for line in lines(scored, "dev"):
        kinds = []
        for entities in (line["gold"], line["entities"]):
            one = ["O"] * len(line["words"])
            for entity in entities:
                for word in range(int(entity["start"]), int(entity["end"])):
                    one[word] = str(entity["type"])
            kinds.append(one)
        expected.update(pair for pair in zip(*kinds, strict=True) if pair != ("O", "O"))
    assert rows == expected
    assert (scored / "confusion.csv").read_bytes() == (scored / "scores" / "confusion-dev.csv").read_bytes()


def test_no_labelled_posts(run_folder: Path, dataset: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no labeled posts in predict; remove the split from evaluate\.splits"):
        evaluate.run(run_folder, *dataset, ["predict"], tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())


def test_a_requested_split_without_labels_is_an_error(
    run_folder: Path, dataset: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"no labeled posts in predict; remove the split"):
        evaluate.run(run_folder, *dataset, [], tmp_path, required=["dev", "predict"], device="cpu")
    assert not list(tmp_path.iterdir())
    assert list(evaluate.run(run_folder, *dataset, [], tmp_path, required=["dev"], device="cpu")) == ["dev"]


def test_label_sets_without_a_common_type_are_an_error_and_a_partial_overlap_is_a_warning(
    run_folder: Path, dataset: tuple[Path, Path], tmp_path: Path
) -> None:
    posts, pack = dataset
    table = read_posts(posts)
    renamed = {"PER": "person", "LOC": "place"}

    def relabelled(names: dict[str, str]) -> Path:
        path = tmp_path / "posts.parquet"
        tags = [None if post.tags is None else tuple(rename(tag, names) for tag in post.tags) for post in table.posts]
        changed = [replace(post, tags=some) for post, some in zip(table.posts, tags, strict=True)]
        words = {names.get(name, name): word for name, word in table.labels.words.items()}
        write_posts(path, changed, LabelSet(words, {}), table.meta)
        return path

    with pytest.raises(
        DataError, match=r"no entity type in common \(found run: LOC, PER; dataset: person, place\); give"
    ):
        evaluate.run(run_folder, relabelled(renamed), pack, ["dev"], tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    metrics = evaluate.run(run_folder, relabelled({"LOC": "place"}), pack, ["dev"], tmp_path / "run", device="cpu")
    assert metrics["dev"]["label_mismatch"] == "only the run predicts LOC; only the dataset has place"
    assert "label_mismatch" not in evaluate.run(run_folder, *dataset, ["dev"], tmp_path / "own", device="cpu")["dev"]


def rename(tag: str, names: dict[str, str]) -> str:
    return tag[:2] + names.get(tag[2:], tag[2:])
