"""Public corpora in their owners' form go through ingest, training and prediction with settings alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import cli
import fmit
from cache.tables import read_posts
from pipeline.corpus.records import ReadLog
from pipeline.engine import silent
from project import Project
from schema.labels import entities
from tests import own
from tests.imports import ROOT
from tests.photos import FOLDER as PHOTOS
from tests.photos import needs_photos

SHARED = ROOT / "../shared/data"
needs_corpora = pytest.mark.skipif(not (SHARED / "wnut17").is_dir(), reason="no corpora beside this folder")
WNUT = {
    name: name for name in ("person", "location", "corporation", "product", "group")
} | {"creative-work": "work"}  # fmt: skip
CONLL = {"train": "train.conll", "dev": "dev.conll"}
PEOPLE = {"PER": "person", "LOC": "location", "ORG": "organization"}
UMT = {"train": "train.txt", "dev": "valid.txt"}


def tabs(text: str) -> str:
    """WNUT-17's own form: a separator line holds a tab."""
    return "".join("\t\n" if line == "\n" else line for line in text.splitlines(keepends=True))


def same(text: str) -> str:
    return text


def bounded(last: str, single: str, inside: str = "I"):
    """Rewrites tags of IOB2 with other prefixes, columns separated by spaces."""

    def rewrite(text: str) -> str:
        lines = text.split("\n")
        following = [*lines[1:], ""]
        new = []
        for line, after in zip(lines, following, strict=True):
            word, tab, tag = line.partition("\t")
            ends = not after.endswith(f"I-{tag[2:]}")
            prefix = {"B": single if ends else "B", "I": last if ends else inside}.get(tag[:1], "")
            new.append(f"{word} NN {prefix}-{tag[2:]}" if prefix and tab else f"{word} NN {tag}" if tab else line)
        return "\n".join(new)

    return rewrite


def iob1(text: str) -> str:
    """B- only where an entity follows another of its type at once."""
    lines, before = [], ""
    for line in text.split("\n"):
        opens = "\tB-" in line and before[2:] != line.rpartition("\t")[2][2:]
        before = line.rpartition("\t")[2] if "\t" in line else ""
        lines.append(line.replace("\tB-", "\tI-") if opens else line)
    return "\n".join(lines)


def rows(text: str) -> str:
    """Hugging Face's rows, labels as numbers."""
    names = ["O", *(f"{prefix}-{name}" for name in PEOPLE for prefix in "BI")]
    found = []
    for block in text.strip("\n").split("\n\n"):
        cells = [line.split("\t") for line in block.split("\n")]
        found.append({"tokens": [cell[0] for cell in cells], "ner_tags": [names.index(cell[1]) for cell in cells]})
    return "".join(json.dumps(row) + "\n" for row in found)


NAMES = ["O", *(f"{prefix}-{name}" for name in PEOPLE for prefix in "BI")]
COLUMNS = {"labels": PEOPLE, "columns": {"word": 0, "label": -1}, "files": CONLL}
CORPORA = {  # name: folder, what rewrites its files, the section `source`
    "wnut17": ("wnut17", tabs, {"files": CONLL, "labels": WNUT}),
    "btc": ("btc", same, {"files": CONLL, "labels": PEOPLE}),
    "btc-cr": ("btc", lambda text: text.replace("\n", "\r"), {"files": CONLL, "labels": PEOPLE}),
    "btc-bioes": ("btc", bounded("E", "S"), {**COLUMNS, "scheme": "bioes"}),
    "btc-bilou": ("btc", bounded("L", "U"), {**COLUMNS, "scheme": "bilou"}),
    "btc-bmes": ("btc", bounded("E", "S", "M"), {**COLUMNS, "scheme": "bmes"}),
    "btc-iob1": ("btc", iob1, {"files": CONLL, "labels": PEOPLE, "scheme": "iob1"}),
    "btc-rows": (
        "btc",
        rows,
        {"format": "jsonl", "files": CONLL, "labels": PEOPLE, "fields": {"labels": "ner_tags"}, "label_names": NAMES},
    ),
    "btc-cut": ("btc", same, {"files": {"train": "train.conll"}, "labels": PEOPLE, "split": {"dev": 0.3}}),
    "twitter2015": ("twitter2015", same, {}),
    "twitter2015-two": ("twitter2015", same, {"files": UMT}),
    "twitter2017": ("twitter2017", same, {"files": UMT}),
}


def project(root: Path, name: str, **more: object) -> Project:
    folder, rewrite, source = CORPORA[name]
    shutil.copytree(SHARED / folder, root / "data" / name)
    for path in (root / "data" / name).iterdir():
        path.chmod(0o644)
        path.write_text(rewrite(path.read_text(encoding="utf-8")), encoding="utf-8", newline="")
    return settings(root, name, {**source, **more}, "bert-crf")


def settings(root: Path, name: str, source: dict[str, object], approach: str, **sections: object) -> Project:
    params = yaml.safe_load(own.PARAMS)
    params |= {"datasets": [name], "train_on": [name], "approaches": [approach]}
    params["data"] = {name: params["data"]["own"] | {"source": source, **sections}}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return Project.open(root / "params.yaml")


@needs_corpora
@pytest.mark.parametrize(
    "name", [name if name == "btc-bioes" else pytest.param(name, marks=pytest.mark.long) for name in CORPORA]
)
def test_a_corpus_is_read_trained_on_and_predicted(tmp_path, name):
    made = project(tmp_path, name, first=60)
    report = made.ingest(name, silent)
    posts = read_posts(made.out(name, "posts.parquet")).posts
    assert report.counts.total("n_posts") == len(posts) > 100 if "cut" not in name else len(posts) == 60
    assert sum(split.entities.total() for split in report.counts.splits.values()) > 10
    if "twitter" not in name:
        assert not any(post.images for post in posts), "text-only, not missing"
        assert report.warning == ""
    list(made.train(name, "bert-crf", 0, device="cpu"))
    log, source = ReadLog(foreign_labels=True), made.source(name)
    split, path = list(source.paths(made.data(name)).items())[-1]
    format = "jsonl" if source.format == "jsonl" else "conll"
    found = fmit.load(made.run(name, "bert-crf", 0), device="cpu").predict_file(path, format=format, log=log)
    predicted = [next(found).post for _ in range(40)]
    assert log.n_without_gold == 0, "a run reads its own files"
    if "cut" not in name:
        assert [post.tags for post in predicted] == [post.tags for post in posts if post.split == split][:40]


@needs_photos
@pytest.mark.long
def test_posts_and_boxes_in_the_layout_of_twitter_gmner(tmp_path, monkeypatch):
    """Its users have CoNLL files in txt/, and the boxes of entities in xml/."""
    folder, name = tmp_path / "data" / "gmner", "gmner"
    blocks = (PHOTOS / "test.txt").read_text(encoding="utf-8").strip("\n").split("\n\n")
    (folder / "txt").mkdir(parents=True)
    for split, some in (("train", blocks[:12]), ("dev", blocks[12:])):
        (folder / "txt" / f"{split}.txt").write_text("\n\n".join(some) + "\n", encoding="utf-8")
    shutil.copytree(PHOTOS / "images", folder / "images")
    shutil.copytree(PHOTOS / "gold_xml", folder / "xml")
    source = {"files": {"train": "txt/train.txt", "dev": "txt/dev.txt"}}
    real = {"ground": {"grounder": "detector"}, "regions": {"net": "efficientnet-lite2", "n_buckets": 8}}
    made = settings(tmp_path, name, source, "fmit", **real)
    for stage in (made.ingest, made.phrases, made.ground, made.regions):
        stage(name, silent)
    list(made.train(name, "fmit", 0, device="cpu"))
    run = made.run(name, "fmit", 0)
    predicted = list(fmit.load(run, device="cpu").predict_file(folder / "txt/dev.txt", images=folder / "images"))
    assert {image.state for one in predicted for image in one.post.images} == {"ok"}
    made.evaluate(run, ("dev",), device="cpu")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.main, ["grounding", "--run", str(run), "--gold", str(folder / "xml"), "--json"])
    assert result.exit_code == 0, result.output
    gold = sum(len(entities(one.post.tags)) for one in predicted)
    assert json.loads(result.stdout)["scores"]["GMNER"]["n_gold"] == gold > 5


@needs_corpora
def test_every_writing_of_one_corpus_has_the_same_entities(tmp_path):
    found = {}
    for name in ("btc", "btc-cr", "btc-bioes", "btc-bilou", "btc-bmes", "btc-iob1", "btc-rows"):
        made = project(tmp_path / name, name, first=300)
        report = made.ingest(name, silent)
        posts = read_posts(made.out(name, "posts.parquet")).posts
        found[name] = [(post.split, post.words, entities(post.tags)) for post in posts]
        assert report.log.orphans.total() == report.log.n_unclosed == 0
    assert len(found["btc"]) == 600
    assert all(each == found["btc"] for each in found.values())


@needs_corpora
@pytest.mark.parametrize(("name", "n_posts"), [("wnut17", (3394, 1009)), ("btc", (6338, 1000))])
def test_whole_corpora_need_nothing_but_settings(tmp_path, name, n_posts):
    made = project(tmp_path, name)
    report = made.ingest(name, silent)
    assert tuple(split.n_posts for split in report.counts.splits.values()) == n_posts
    left_out = ["3 row(s) with the label O and no word were left out", "1 post(s) with only such rows were left out"]
    assert report.remarks() == (left_out if name == "btc" else [])
