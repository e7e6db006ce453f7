"""A run on disk: what is loaded is what was saved, without the first encoder; misfits are named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cache.packs import Pack, PackMeta
from cache.tables import read_posts
from model.approaches import approach
from model.checkpoint import RunInfo, digest_tensors, load_run, save_run, versions
from model.data import PostDataset, collate
from model.objects import FromPack
from model.tagger import ModelSpec
from schema.errors import PackError, RunError
from schema.labels import LabelSet
from tests.model.tiny import DIM, LABELS, tiny_config


def info_of(encoder: Path) -> RunInfo:
    meta = PackMeta(DIM, "float32", 2, ("person",), True, {"regions": {"identity": {"name": "synthetic"}}})
    return RunInfo("fmit", 3, tiny_config(encoder), LABELS, meta, {"posts": "1"}, {"train": 2}, {"dev_f1": 0.5}, {})


def test_info_as_json_and_back(encoder: Path) -> None:
    order = LabelSet({"Z": "zebra", "A": "ape"}, {"B": "A"})  # the order gives the tags their numbers
    for info in (info_of(encoder), replace(info_of(encoder), pack=None, labels=order)):
        again = RunInfo.from_json(json.loads(json.dumps(info.to_json(), sort_keys=True)), "x")
        assert again == info
        assert again.labels.tags == info.labels.tags
    assert info_of(encoder).synthetic
    assert not replace(info_of(encoder), pack=None).synthetic


def test_a_loaded_run_is_the_saved_one(encoder: Path, dataset: tuple[Path, Path], tmp_path: Path) -> None:
    gone = tmp_path / "encoder"
    shutil.copytree(encoder, gone)
    info = replace(info_of(encoder), config=tiny_config(gone))
    tagger = approach("fmit").build(ModelSpec(info.config, LABELS, DIM)).eval()
    save_run(tmp_path / "run" / "model", info, tagger)
    shutil.rmtree(gone)
    torch.manual_seed(11)
    state = torch.get_rng_state()
    again, loaded = load_run(tmp_path / "run" / "model")
    assert torch.equal(torch.get_rng_state(), state)
    assert again == info
    assert digest_tensors(loaded.state_dict()) == digest_tensors(tagger.state_dict())
    posts = read_posts(dataset[0]).posts[:3]
    examples = PostDataset(posts, FromPack(Pack(dataset[1])), LABELS, loaded.featurizer, info.config)
    batch = collate([examples[row] for row in range(3)], loaded.featurizer)
    assert torch.equal(loaded.emissions(batch), tagger.emissions(batch))
    assert "synthetic" in (tmp_path / "run" / "model" / "card.md").read_text().lower()


def test_saving_twice_gives_the_same_bytes(encoder: Path, tmp_path: Path) -> None:
    tagger = approach("bert-crf").build(ModelSpec(tiny_config(encoder), LABELS, 1))
    for name in ("a", "b"):
        save_run(tmp_path / name, info_of(encoder), tagger)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) >= 5
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_a_digest_sees_every_bit() -> None:
    tensors = {"a": torch.zeros(2), "b": torch.ones(1)}
    changed = [
        {**tensors, "a": torch.tensor([0.0, -0.0])},
        {**tensors, "a": torch.zeros(1, 2)},
        {"c": tensors["a"], "b": tensors["b"]},
    ]
    assert len({digest_tensors(one) for one in (tensors, *changed)}) == 4
    assert digest_tensors(dict(reversed(tensors.items()))) == digest_tensors(tensors)


def test_other_region_weights_are_refused(encoder: Path) -> None:
    info = info_of(encoder)
    assert info.pack is not None
    info.check_pack(replace(info.pack, general_words=("dog",), synthetic=False), "pack")
    other = {"regions": {"identity": {"name": "resnet152"}}}
    for meta in (replace(info.pack, provenance=other), replace(info.pack, dim=DIM + 1)):
        with pytest.raises(
            PackError,
            match=r"region features with (name synthetic|dim \d+) \(found (name resnet152|dim \d+)\); build the pack",
        ):
            info.check_pack(meta, "pack")
        replace(info, config=tiny_config(encoder, objects="none")).check_pack(meta, "pack")


def test_incomplete_and_foreign_runs(encoder: Path, run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot read the run .*; train it, or pull it"):
        load_run(tmp_path)
    run = tmp_path / "run"
    shutil.copytree(run_folder / "model", run)
    values = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**values, "config": {**values["config"], "width": 32}}))
    with pytest.raises(RunError, match="the weights do not match the code"):
        load_run(run)
    (run / "config.json").write_text(json.dumps({**values, "schema_version": 99}))
    with pytest.raises(
        RunError, match=r"this version of fmit reads runs of schema version 1 \(found version 99\); train again"
    ):
        load_run(run)
    for broken in ("[]", "{}", "null", "3"):
        (run / "config.json").write_text(broken)
        with pytest.raises(
            RunError, match=r"this version of fmit reads runs of schema version 1 \(found version None\); train again"
        ):
            load_run(run)
    (run / "config.json").write_text(json.dumps({**values, "pack": {"toy": True}}))
    with pytest.raises(RunError, match=r"written by another version of fmit \(found the key 'toy'\); train again"):
        load_run(run)
    for name, value in (("labels", 3), ("pack", 3), ("config", 3), ("seed", None)):
        partial = {**values, name: value} if value is not None else {k: v for k, v in values.items() if k != name}
        (run / "config.json").write_text(json.dumps(partial))
        with pytest.raises(RunError, match=r"not a run's config.json \(found .*; train again"):
            load_run(run)
    (run / "config.json").write_bytes(b"\xff")
    with pytest.raises(RunError, match="cannot read the run"):
        load_run(run)
    (run / "config.json").write_text(json.dumps(values))
    (run / "encoder").rename(run / "elsewhere")
    with pytest.raises(
        RunError, match=r"run/encoder: the run lacks its encoder's files \(found .*\); pull the run again"
    ):
        load_run(run)
    (run / "elsewhere").rename(run / "encoder")
    (run / "encoder" / "config.json").unlink()
    with pytest.raises(RunError, match="the run lacks its encoder's files"):
        load_run(run)
    (run / "weights.safetensors").write_bytes(b"no tensors here, sorry")
    with pytest.raises(RunError, match="cannot read the run"):
        load_run(run)


def test_versions_name_what_decides_numbers() -> None:
    found = versions()
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert {"python", "transformers", "pytorch-crf"} <= found.keys()
