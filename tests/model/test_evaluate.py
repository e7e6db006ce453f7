"""Files of an evaluation say what the predictions in them say."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from model import evaluate
from schema.errors import DataError


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
    assert set(summary) == {"dev", "test"}  # nobody is in "predict"
    assert summary[split]["strict"] == metrics["strict"]


def test_dev_equals_what_training_saw(scored: Path) -> None:
    summary = json.loads((scored / "metrics.json").read_text())
    info = json.loads((scored / "model" / "config.json").read_text())
    assert summary["dev"]["strict"]["micro"]["f1"] == pytest.approx(info["dev"]["dev_f1"], abs=1e-12)


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
    with pytest.raises(DataError, match=r"no labelled posts in predict; see evaluate\.splits"):
        evaluate.run(run_folder, *dataset, ["predict"], tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())


def test_a_split_that_was_asked_for_is_never_left_out_in_silence(
    run_folder: Path, dataset: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"no labelled posts in predict; see"):
        evaluate.run(run_folder, *dataset, [], tmp_path, asked=["dev", "predict"], device="cpu")
    assert not list(tmp_path.iterdir())
    assert list(evaluate.run(run_folder, *dataset, [], tmp_path, asked=["dev"], device="cpu")) == ["dev"]
