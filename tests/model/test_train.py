"""Training end to end: what a run holds, that it repeats byte for byte, killed or not, and what it needs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cache.keys import digest_file
from cache.packs import Pack
from cache.tables import read_posts, write_posts
from model import evaluate, train
from model.trainer import EpochResult
from schema.errors import ConfigError, DataError, PackError, RunError
from schema.text import plain_markdown
from tests.model.tiny import LABELS, tiny_config

ROOT = Path(__file__).parents[2]


def go(
    encoder: Path, dataset: tuple[Path, Path], out: Path, warnings: list[str] | None = None, **changes: object
) -> list[EpochResult]:
    config = tiny_config(encoder, **{"epochs": 6, **changes})
    warn, resume = ([] if warnings is None else warnings).append, out.parent / "resume"
    return list(train.run(config, "fmit", 0, *dataset, out, resume, device="cpu", save_every_s=0, warn=warn))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_repeats_byte_for_byte(
    encoder: Path, dataset: tuple[Path, Path], run_folder: Path, tmp_path: Path
) -> None:
    results = go(encoder, dataset, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(run_folder)
    assert not list((tmp_path / "resume").iterdir())
    assert json.loads((tmp_path / "run" / "curves.json").read_text()) == [one.curve() for one in results]
    assert len(results) == 6


def test_what_a_run_says_of_itself(run_folder: Path, dataset: tuple[Path, Path], encoder: Path) -> None:
    info = json.loads((run_folder / "model" / "config.json").read_text())
    assert set(info["inputs"]) == {"posts", "pack", "encoder", "start_weights"}
    assert info["inputs"]["encoder"] == digest_file(encoder / "model.safetensors")
    assert info["n_posts"] == {"train": 24, "dev": 8}
    assert info["labels"] == [[["PER", "person"], ["LOC", "location"]], []]
    assert info["dev"] in json.loads((run_folder / "curves.json").read_text())
    text = json.dumps(info)
    assert str(dataset[0].parent) not in text
    assert os.uname().nodename not in text


def test_a_run_tells_how_many_objects_a_cap_cut(
    encoder: Path, dataset: tuple[Path, Path], run_folder: Path, tmp_path: Path
) -> None:
    warnings: list[str] = []
    go(encoder, dataset, tmp_path / "run", warnings, epochs=1, max_objects=1)
    info = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    found, n_phrases = info["n_cut"], info["n_cut_phrases"]["train"]
    assert info["warnings"] == warnings
    assert n_phrases == found["train"]  # what is left is the whole image
    pack, posts = Pack(dataset[1]), read_posts(dataset[0]).posts
    beyond = {name: sum(len(pack.read(one.id).regions) - 1 for one in posts if one.split == name) for name in found}
    assert found == beyond
    assert found["train"] > 0
    card = (tmp_path / "run" / "model" / "card.md").read_text()
    assert f"left out of the lattice: train {found['train']}, of these {n_phrases} of phrases; dev " in card
    assert warnings[0] == (
        f"train: {found['train']} object(s) of 24 post(s), {n_phrases} of them phrases, are left out of the lattice by "
        "max_objects: 1 or the encoder's max_pieces"
    )
    assert f"**Warning:** train: {found['train']} object(s) of 24 post(s)" in card
    assert "left out of the lattice" not in (run_folder / "model" / "card.md").read_text()


def test_a_dev_split_without_entities_publishes_the_last_epoch(
    encoder: Path, dataset: tuple[Path, Path], run_folder: Path, tmp_path: Path
) -> None:
    """Test F1 is that of a trained model: the first epoch, which is no better on dev, finds nothing."""
    posts = read_posts(dataset[0]).posts
    blank = [replace(post, tags=("O",) * post.n_words) if post.split == "dev" else post for post in posts]
    write_posts(tmp_path / "posts.parquet", blank, LABELS, {"source": {"scheme": "bioes"}})
    warnings: list[str] = []
    results = go(encoder, (tmp_path / "posts.parquet", dataset[1]), tmp_path / "run", warnings, epochs=20, patience=2)
    assert [one.dev_f1 for one in results] == [0.0] * 20  # patience has nothing to count
    info = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert info["dev"]["epoch"] == 20
    no_entity = "dev has labeled posts but no entity, so no epoch can be better than another: check its labels"
    last = "dev has no entity, so no epoch can be selected: the last epoch (20) is kept"
    assert warnings == [no_entity, last]
    assert info["selection"] == last
    card = (tmp_path / "run" / "model" / "card.md").read_text()
    assert f"- {plain_markdown(last)}." in card
    assert f"**Warning:** {no_entity}" in card
    assert "best strict dev F1" not in card
    scores = evaluate.run(tmp_path / "run", dataset[0], dataset[1], ["test"], device="cpu")
    assert scores["test"]["strict"]["micro"]["f1"] == 1.0
    assert info["data"] == {"source": {"scheme": "bioes"}}  # what prediction needs to read files of this kind


def test_an_interrupted_call_goes_on(
    encoder: Path, dataset: tuple[Path, Path], run_folder: Path, tmp_path: Path
) -> None:
    out, resume = tmp_path / "run", tmp_path / "resume"
    epochs = train.run(tiny_config(encoder, epochs=6), "fmit", 0, *dataset, out, resume, device="cpu", save_every_s=0)
    next(epochs)
    epochs.close()  # the caller dies in epoch 2
    assert not out.exists()
    assert len(list(resume.iterdir())) == 1
    assert [one.epoch for one in go(encoder, dataset, out)] == [1, 2, 3, 4, 5, 6]
    assert contents(out) == contents(run_folder)


def test_the_same_training_twice_at_once_is_refused_and_the_first_one_unharmed(
    encoder: Path, dataset: tuple[Path, Path], run_folder: Path, tmp_path: Path
) -> None:
    out, resume = tmp_path / "run", tmp_path / "resume"
    first = train.run(tiny_config(encoder, epochs=6), "fmit", 0, *dataset, out, resume, device="cpu", save_every_s=0)
    next(first)
    message = rf"^{resume}/[\w-]+: another process is training this run \(found process {os.getpid()} on "
    with pytest.raises(RunError, match=message):
        go(encoder, dataset, tmp_path / "beside")
    assert len(list(first)) == 5
    assert contents(out) == contents(run_folder)
    assert not list(resume.iterdir())


@pytest.mark.long
def test_killed_by_the_system(encoder: Path, dataset: tuple[Path, Path], run_folder: Path, tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; from model import train; from tests.model.tiny import tiny_config; import sys\n"
        "e, p, k, o, r = map(Path, sys.argv[1:])\n"
        "seen = lambda done, total: print(done, flush=True)\n"
        "rest = {'device': 'cpu', 'save_every_s': 0, 'progress': seen}\n"
        "list(train.run(tiny_config(e, epochs=6), 'fmit', 0, p, k, o, r, **rest))\n"
    )
    out, resume = tmp_path / "run", tmp_path / "resume"
    command = [sys.executable, "-c", script, *map(str, (encoder, *dataset, out, resume))]
    for kills_at in (2, 1, 1):
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert child.stdout is not None
        for _ in range(kills_at):
            child.stdout.readline()
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        assert not out.exists()
    go(encoder, dataset, out)
    assert contents(out) == contents(run_folder)


def test_text_only_needs_no_pack(encoder: Path, dataset: tuple[Path, Path], tmp_path: Path) -> None:
    config, posts = tiny_config(encoder, epochs=1), dataset[0]
    list(train.run(config, "bert-crf", 0, posts, None, tmp_path / "run", tmp_path / "resume", device="cpu"))
    assert json.loads((tmp_path / "run" / "model" / "config.json").read_text())["pack"] is None
    with pytest.raises(PackError, match="this approach needs objects"):
        next(train.run(config, "fmit", 0, posts, None, tmp_path / "x", tmp_path / "resume", device="cpu"))


def test_what_training_needs(encoder: Path, dataset: tuple[Path, Path], tmp_path: Path) -> None:
    posts = [post for post in read_posts(dataset[0]).posts if post.split != "dev"]
    write_posts(tmp_path / "posts.parquet", posts, LABELS, {})
    rest = (tmp_path / "run", tmp_path / "resume")
    with pytest.raises(DataError, match="training needs labeled posts in dev"):
        next(train.run(tiny_config(encoder), "fmit", 0, tmp_path / "posts.parquet", dataset[1], *rest, device="cpu"))
    with pytest.raises(
        ConfigError, match=r"unknown approach 'fmitt'; did you mean fmit\? The approaches are fmit, fmit-l1"
    ):
        next(train.run(tiny_config(encoder), "fmitt", 0, *dataset, *rest, device="cpu"))
    assert not (tmp_path / "run").exists()
