"""Whatever way a dataset's images are linked, a change of their content makes ingest and the stages after it run."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.corpus import inputs
from pipeline.corpus.config import PRESETS, SourceConfig
from schema.errors import ConfigError
from synthetic.posts import draft
from synthetic.scenes import compose, dataset_rng, png_bytes
from tests import own

STAGES = ("ingest", "phrases", "ground", "regions")
SIZES = {"train": 3}


def plain(data: Path, store: Path) -> Path:
    shutil.copytree(store, data)
    return data / "images"


def folder_linked(data: Path, store: Path) -> Path:
    data.symlink_to(store)
    return store / "images"


def sub_folder_linked(data: Path, store: Path) -> Path:
    data.mkdir()
    shutil.copy(store / "train.jsonl", data)
    (data / "images").symlink_to(store / "images")
    return store / "images"


def nested_folder_linked(data: Path, store: Path) -> Path:
    """Images in a linked folder of a plain image folder."""
    (data / "images").mkdir(parents=True)
    text = (store / "train.jsonl").read_text().replace('"images": ["', '"images": ["part/')
    (data / "train.jsonl").write_text(text)
    (data / "images" / "part").symlink_to(store / "images")
    return store / "images"


def files_linked(data: Path, store: Path) -> Path:
    (data / "images").mkdir(parents=True)
    shutil.copy(store / "train.jsonl", data)
    for image in (store / "images").iterdir():
        (data / "images" / image.name).symlink_to(image)
    return data / "images"


def outside(data: Path, store: Path) -> Path:
    """source.images is an absolute path; see `params`."""
    data.mkdir()
    shutil.copy(store / "train.jsonl", data)
    return store / "images"


def dvc_symlink_cache(data: Path, store: Path) -> Path:
    """`prepare` adds it to DVC, whose cache then holds the files."""
    return plain(data, store)


LAYOUTS: dict[str, Callable[[Path, Path], Path]] = {
    layout.__name__: layout
    for layout in (
        plain,
        folder_linked,
        sub_folder_linked,
        nested_folder_linked,
        files_linked,
        outside,
        dvc_symlink_cache,
    )
}


def png(number: int) -> bytes:
    one = draft(0, "dev", number)
    return png_bytes(compose(dataset_rng(0, one.number), one.objects))


def params(root: Path, names: list[str]) -> str:
    head, _, block = own.PARAMS.partition("  own:\n")
    head = head.replace("datasets: [own]", f"datasets: [{', '.join(names)}]")
    block = block.replace("preset: jsonl", "preset: jsonl, files: {train: train.jsonl}")
    blocks = dict.fromkeys(names, block)
    path = root.parent / "store" / "outside" / "images"
    blocks["outside"] = block.replace("preset: jsonl", f"preset: jsonl, images: {path}")
    head = head.replace("train_on: [own]", f"train_on: [{names[0]}]")
    return head + "".join(f"  {name}:\n{blocks[name]}" for name in names)


class Layouts:
    """A project with a dataset for each layout."""

    def __init__(self, root: Path, names: list[str]) -> None:
        self.own = own.make(root, params(root, names))
        (root / ".gitignore").write_text("/out/\n/runs/\n/data/*\n!/data/*.dvc\n/.fmit/\n", encoding="utf-8")
        shutil.rmtree(root / "data")
        (root / "data").mkdir()
        self.own.dvc("config", "cache.type", "symlink")
        self.images: dict[str, Path] = {}
        for name in names:
            store = root.parent / "store" / name
            own.write_posts(store, SIZES)
            self.images[name] = LAYOUTS[name](root / "data" / name, store)
        self.add()

    def add(self) -> None:
        if "dvc_symlink_cache" not in self.images:
            return
        self.own.dvc("add", "data/dvc_symlink_cache")
        assert all(path.is_symlink() for path in self.images["dvc_symlink_cache"].iterdir())

    def change(self, act: Callable[[Path], None]) -> None:
        """Do something in the image folder of every dataset."""
        if "dvc_symlink_cache" in self.images:
            self.own.dvc("unprotect", "data/dvc_symlink_cache")
        for folder in self.images.values():
            act(folder)
        self.add()

    def ran(self, *targets: str) -> dict[str, set[str]]:
        """`dvc repro`: the datasets for which each stage ran."""
        printed = self.own.dvc("repro", *targets)
        found: dict[str, set[str]] = {stage: set() for stage in STAGES}
        for stage, dataset in re.findall(r"^Running stage '(\w+)@(\w+)'", printed, re.M):
            found[stage].add(dataset)
        return found


def replace(folder: Path) -> None:
    path = folder / "train-00000.png"
    path.unlink()
    path.write_bytes(png(1))


def add(folder: Path) -> None:
    (folder / "train-00000.webp").write_bytes(png(2))


def delete(folder: Path) -> None:
    (folder / "train-00001.png").unlink()


ACTS: tuple[Callable[[Path], None], ...] = (replace, add, delete)


def check(
    root: Path, names: list[str], stages: tuple[str, ...], acts: tuple[Callable[[Path], None], ...] = ACTS
) -> None:
    layouts, targets = Layouts(root, names), [f"{stages[-1]}@{name}" for name in names]
    everything = {stage: set(names) if stage in stages else set() for stage in STAGES}
    nothing: dict[str, set[str]] = {stage: set() for stage in STAGES}
    assert layouts.ran(*targets) == everything
    assert layouts.ran(*targets) == nothing
    for act in acts:
        layouts.change(act)
        ran = layouts.ran(*targets)
        assert ran["ingest"] == set(names), act.__name__
        assert (ran["ground"], ran["regions"]) == (everything["ground"], everything["regions"]), "they read images too"
        layouts.change(lambda folder: os.utime(folder / "train-00002.png"))
        assert layouts.ran(*targets) == nothing, f"after {act.__name__}"


def test_ingest_runs_when_the_content_behind_a_linked_folder_changed_and_only_then(tmp_path):
    check(tmp_path / "project", ["sub_folder_linked"], ("ingest",), (replace,))


@pytest.mark.long
def test_all_stages_run_when_the_content_changed_and_only_then_in_every_layout(tmp_path):
    check(tmp_path / "project", list(LAYOUTS), STAGES)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project root with DVC, a dataset `d` without images, and images elsewhere."""
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / "data/d").mkdir(parents=True)
    (root / "data/d/train.jsonl").write_text("{}")
    (tmp_path / "elsewhere/images").mkdir(parents=True)
    (tmp_path / "elsewhere/images/a.png").write_bytes(png(0))
    (tmp_path / "elsewhere/train.jsonl").write_text("{}")
    return root


def source(**values: object) -> SourceConfig:
    return SourceConfig.from_section(
        {"preset": "jsonl", "files": {"train": "train.jsonl"}, **values}, "source", PRESETS
    )


def test_only_what_dvc_does_not_see_is_tracked(project):
    folder, elsewhere = project / "data/d", project.parent / "elsewhere"
    (folder / "images").mkdir()
    (folder / "images/a.png").symlink_to(elsewhere / "images/a.png")
    assert inputs.track(project, "d", folder, source()) == []
    assert not (project / "inputs").exists()
    (folder / "images/part").symlink_to(elsewhere / "images")
    (elsewhere / "images/back").symlink_to(folder / "images")  # a loop
    assert inputs.untracked(project, "d", folder, source()) == [folder / "images/part"]
    assert inputs.track(project, "d", folder, source()) == [folder / "images/part"]
    assert inputs.untracked(project, "d", folder, source()) == []
    assert "- data/d/images/part" in (project / "inputs/d/dvc.yaml").read_text()
    (folder / "images/part").unlink()
    inputs.track(project, "d", folder, source())
    assert not (project / "inputs/d/dvc.yaml").exists()
    assert not list(folder.glob(".inputs*"))


@pytest.mark.parametrize("name", ["../../../elsewhere/train.jsonl", "linked/train.jsonl"])
def test_posts_outside_or_behind_a_link_are_tracked(project, name):
    folder = project / "data/d"
    (folder / "linked").symlink_to(project.parent / "elsewhere")
    (path,) = inputs.track(project, "d", folder, source(files={"train": name}))
    assert path.samefile(project.parent / "elsewhere/train.jsonl")
    before = (folder / ".inputs-d.json").read_text()
    path.write_text("{ }")
    inputs.write_manifest("d", folder, source(files={"train": name}))
    assert (folder / ".inputs-d.json").read_text() != before


def test_what_cannot_be_tracked_is_refused(project, monkeypatch):
    folder = project / "data/d"
    with pytest.raises(ConfigError, match=r"/nowhere: the image folder does not exist; create it"):
        inputs.track(project, "d", folder, source(images="/nowhere"))
    with pytest.raises(ConfigError, match=r"an input contains the dataset's own folder"):
        inputs.track(project, "d", folder, source(images=".."))
    (folder / "images").symlink_to(project.parent / "elsewhere/images")
    (project / "data/d.dvc").touch()
    with pytest.raises(
        ConfigError, match=r"`dvc add data/d` did not add the targets of links \(found .*/images\); put the"
    ):
        inputs.track(project, "d", folder, source())
    (project / "data/d.dvc").unlink()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(
        ConfigError, match=r"the folder is read-only \(found .*/images\); make the folder writable, or link"
    ):
        inputs.track(project, "d", folder, source())
    shutil.rmtree(project / ".dvc")
    assert inputs.track(project, "d", folder, source()) == [], "without DVC there is nothing to track"
