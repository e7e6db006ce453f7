"""`fmit doctor` in three situations: nothing there, all there, one file damaged."""

import json

import pytest
from click.testing import CliRunner

import cli
from cache import weights
from cache.keys import digest_file
from pipeline.engine import silent
from project import Project
from tests import own
from tests.commands import tiny_models


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Drawn posts before any stage, and embedded weights of its own."""
    (tmp_path / "params.yaml").write_text(own.PARAMS)
    own.write_posts(tmp_path / "data" / "own", {"train": 2, "dev": 2, "test": 1})
    tiny_models.embed(tmp_path / "embedded", weights.EMBEDDED)
    monkeypatch.setattr(weights, "EMBEDDED", tmp_path / "embedded")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FMIT_STORE", raising=False)
    return tmp_path


def doctor(*arguments: str):
    result = CliRunner().invoke(cli.main, ["doctor", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def problems(result) -> list[dict]:
    found = json.loads(result.stdout)
    listed = [one for one in found["findings"] if one["level"] == "problem"]
    assert found["ok"] == (not listed) == (result.exit_code == 0)
    assert all(one["todo"] for one in listed)
    return listed


def files(root) -> dict[str, str]:
    return {str(path): digest_file(path) for path in root.rglob("*") if path.is_file()}


def test_nothing_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights, "EMBEDDED", tmp_path / "nowhere")
    monkeypatch.setenv("FMIT_STORE", str(tmp_path / "store"))
    (one,) = problems(doctor("--json"))
    assert one["topic"] == "settings"
    assert "parameter file not found" in one["what"]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "params.yaml").write_text(own.PARAMS)
    found = {one["what"].split(":")[0] for one in problems(doctor("--json"))}
    assert {"parser parser", "grounder synthetic-grounder"} <= found
    assert any("train.jsonl" in name for name in found)


def test_all_there_and_nothing_is_written(project):
    before = files(project)
    assert problems(doctor("--json")) == []
    printed = doctor().stdout
    assert "5 posts (train 2, dev 2, test 1)" in printed
    assert "images: 5 ok, 0 missing, 0 broken, 0 refused" in printed
    assert "0 problem(s)" in printed
    assert files(project) == before


@pytest.mark.parametrize("name", ["parser", "synthetic-grounder"])
def test_one_model_damaged(project, name):
    path = weights.EMBEDDED / f"{name}.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (one,) = problems(doctor("--json", "--no-data"))
    assert f"{name}: damaged: sha256" in one["what"]
    assert one["todo"].startswith(f"git checkout -- weights/{name}.safetensors")


def test_one_line_damaged(project):
    (project / "data/own/dev.jsonl").write_text('{"id": "1", "tokens": ["Ann"], "labels": ["B-WHO"]}\n')
    first, every = problems(doctor("--json"))
    assert first["what"].endswith("dev.jsonl:1: unknown label 'B-WHO', the types are PER, LOC, ORG, MISC")
    assert first["todo"] == "add the type to source.labels or source.aliases", "said once"
    assert every["what"] == "types that are not in source.labels: WHO (1)"
    assert every["todo"].startswith("add them to source.labels (TYPE: general word)")


def spoil_images(root):
    for path in sorted((root / "data/own/images").iterdir())[:4]:
        path.write_bytes(b"no image")


def label_dev_with_o_only(root):
    path = root / "data/own/dev.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | {"labels": ["O"] * len(row["labels"])}) + "\n" for row in rows))


def name_other_types(root):
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("{preset: jsonl}", "{preset: jsonl, labels: {GENE: gene}}"))


def cap_objects_at_one(root):
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("preset: tiny,", "preset: tiny, max_objects: 1,"))
    opened = Project.open(root / "params.yaml")
    opened.ingest("own", silent)
    opened.phrases("own", silent)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (spoil_images, "4 of 5 images cannot be used"),
        (label_dev_with_o_only, "its dev posts have no entity"),
        (name_other_types, "has no type in common with the data"),
        (cap_objects_at_one, "train.max_objects 1 cuts"),
    ],
)
def test_data_that_would_spoil_training_is_a_problem(project, spoil, what):
    spoil(project)
    found = problems(doctor("--json"))
    assert any(what in one["what"] for one in found), found


def test_what_strangers_write_is_inert_in_a_terminal(project):
    row = {"id": "1", "tokens": ["Ann"], "labels": ["O"], "images": ["\x1b[31mred\u202e.png"]}
    (project / "data/own/dev.jsonl").write_text(json.dumps(row) + "\n")
    printed = doctor().stdout
    assert "1 missing" in printed
    assert "\x1b" not in printed
    assert "\u202e" not in printed
