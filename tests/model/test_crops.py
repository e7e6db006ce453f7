"""Crops instead of cached features: what is read, that the network learns, and that nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cache.packs import Pack, PackMeta
from cache.tables import read_posts
from model import evaluate, train
from model.checkpoint import OLD_CROP_NET
from model.config import TrainConfig
from model.crops import Crop, CropReader, crop_network, crop_of
from model.data import Batch
from model.predict import Run
from model.tagger import Tagger
from schema.errors import ConfigError, ImageError, PackError, WeightsError
from schema.records import Box
from tests.model.test_fit import NoWaiting
from tests.model.tiny import tiny_config
from tests.model.with_images import DIM, first_convolution, write_with_images
from vision import images
from vision.crops import Transform, crop_tensor

Data = tuple[Path, Path, Path]  # posts, pack, images folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return write_with_images(tmp_path_factory.mktemp("with_images"))


@pytest.fixture(autouse=True)
def models(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMIT_MODELS", str(data[0].parent / "models"))


def settings(encoder: Path, vision: dict[str, Any], **changes: Any) -> TrainConfig:
    vision = {"finetune": True, "batch": 4, "lr": 5e-3, **vision}
    return tiny_config(encoder, vision=vision, **{"epochs": 2, "batch": 5, **changes})


def go(config: TrainConfig, data: Data, out: Path, approach: str = "fmit") -> dict[str, torch.Tensor]:
    """Train; the run's weights."""
    posts, pack, folder = data
    rest = {"images": folder, "device": "cpu"}
    list(train.run(config, approach, 0, posts, pack, out, out.parent / "resume", **rest))
    return load_file(out / "model" / "weights.safetensors")


def curves(out: Path) -> list[dict[str, float]]:
    return json.loads((out / "curves.json").read_text())


def test_each_distinct_crop_once_and_each_image_decoded_once(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    posts = read_posts(data[0]).posts
    transform = Transform(16, 16)
    one, two = posts[0], posts[1]
    same = posts[2]  # shows the image of posts[1]
    crops = [crop_of(one, region) for region in Pack(data[1]).read(one.id).regions]
    image = two.images[0]
    rows = [[*crops, None], [Crop(image, Box(0, 0, 9, 9)), Crop(None, None)], [Crop(same.images[0], Box(0, 0, 9, 9))]]
    opened: list[str] = []
    load = images.load
    monkeypatch.setattr(images, "load", lambda folder, image: opened.append(image.digest) or load(folder, image))
    pixels, index = CropReader(data[2], transform).batch(rows, 4)
    n = len(crops)
    assert same.images[0].digest == image.digest
    assert index.tolist() == [
        [*range(n), *[-1] * (4 - n)],
        [n, n + 1, -1, -1],
        [n, -1, -1, -1],
    ]
    assert sorted(opened) == sorted([one.images[0].digest, image.digest])
    assert pixels.shape == (n + 2, 3, 16, 16)
    for at, crop in [*enumerate(crops), (n, rows[1][0])]:
        assert crop is not None
        assert torch.equal(pixels[at], crop_tensor(load(data[2], crop.image), crop.box, transform))
    assert torch.equal(pixels[n + 1], crop_tensor(images.EMPTY, None, transform))
    none, index = CropReader(data[2], transform).batch([[None], []], 2)
    assert (none.shape, index.tolist()) == ((0, 3, 16, 16), [[-1, -1], [-1, -1]])


def test_a_frozen_network_gives_what_the_cached_features_give(encoder: Path, data: Data, tmp_path: Path) -> None:
    clipped = {"clip": 0.05}  # by the norm of what moves: a network that does not must not count
    cached = go(tiny_config(encoder, epochs=2, batch=5, **clipped), data, tmp_path / "cached")
    frozen = go(settings(encoder, {"lr": 0.0}, **clipped), data, tmp_path / "frozen")
    assert frozen.keys() - cached.keys() == {name for name in frozen if name.startswith("crop_net.")}
    for name, value in cached.items():
        torch.testing.assert_close(frozen[name], value, atol=1e-4, rtol=0)
    for ours, theirs in zip(curves(tmp_path / "frozen"), curves(tmp_path / "cached"), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


def test_trains_down_to_the_first_convolution(encoder: Path, data: Data, tmp_path: Path) -> None:
    start = first_convolution(go(settings(encoder, {"lr": 0.0}, epochs=1), data, tmp_path / "frozen"))
    found = go(settings(encoder, {}, epochs=1), data, tmp_path / "moving")
    moved = first_convolution(found) - start
    assert (moved.abs() > 1e-4).float().mean() > 0.9
    assert moved.abs().max() < 4 * 5e-3, "three steps at its own rate, half of the head's"


def test_checkpointing_and_slices_change_nothing(encoder: Path, data: Data, tmp_path: Path) -> None:
    one = go(settings(encoder, {}), data, tmp_path / "one")
    other = go(settings(encoder, {"checkpointing": False, "batch": 64}), data, tmp_path / "other")
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, atol=2e-3, rtol=1e-3)


def test_a_resumed_run_is_identical_bit_for_bit(encoder: Path, data: Data, tmp_path: Path) -> None:
    config = settings(encoder, {})
    whole = go(config, data, tmp_path / "whole")
    posts, pack, folder = data
    rest = {"images": folder, "device": "cpu", "save_every_s": 0}
    epochs = train.run(config, "fmit", 0, posts, pack, tmp_path / "broken", tmp_path / "resume", **rest)
    next(epochs)
    epochs.close()
    assert list((tmp_path / "resume").iterdir())
    again = go(config, data, tmp_path / "broken")
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    assert curves(tmp_path / "broken") == curves(tmp_path / "whole"), "the second epoch's steps too, best or not"


@pytest.mark.parametrize("approach", ["fmit-shuffled", "fmit-empty", "bert-crf"])
def test_controls_and_text_only(encoder: Path, data: Data, tmp_path: Path, approach: str) -> None:
    found = go(settings(encoder, {}, epochs=1), data, tmp_path / "run", approach)
    assert any(name.startswith("crop_net.") for name in found) == (approach == "fmit-shuffled")


def test_a_run_loads_predicts_and_scores(encoder: Path, data: Data, tmp_path: Path) -> None:
    posts, pack, folder = data
    go(settings(encoder, {}), data, tmp_path / "run")
    run = Run.load(tmp_path / "run", "cpu")
    dev = [post for post in read_posts(posts).posts if post.split == "dev"]
    packed = run.predict(dev, Pack(pack), images=folder)
    given = run.predict(dev, [Pack(pack).read(post.id) for post in dev], images=folder)
    assert [one.tags for one in packed] == [one.tags for one in given]
    scores = evaluate.run(tmp_path / "run", posts, pack, ["dev"], images=folder, device="cpu")["dev"]
    best = max(row["dev_f1"] for row in curves(tmp_path / "run"))
    assert scores["strict"]["micro"]["f1"] == pytest.approx(best, abs=1e-9)
    with pytest.raises(ConfigError, match=r"this run needs the posts' images \(found no folder\)"):
        run.predict(dev, Pack(pack))


def test_refuses_images_that_changed_since_ingest(encoder: Path, data: Data, tmp_path: Path) -> None:
    other = write_with_images(tmp_path / "other")
    name = read_posts(other[0]).posts[0].images[0].name
    (other[2] / name).write_bytes((other[2] / read_posts(other[0]).posts[1].images[0].name).read_bytes())
    with pytest.raises(ImageError, match="changed since ingest"):
        go(settings(encoder, {}), other, tmp_path / "run")


def pack_meta(**identity: str) -> PackMeta:
    return PackMeta(8, "float32", 1, (), True, {"regions": {"config": {}, "identity": identity}})


def test_weights_under_the_former_name_of_the_crop_network_load(encoder: Path, data: Data, tmp_path: Path) -> None:
    weights = go(settings(encoder, {}), data, tmp_path / "run")
    former = OLD_CROP_NET.strip("^").replace("\\", "")
    renamed = {name.replace("crop_net.", former): value for name, value in weights.items()}
    assert renamed.keys() != weights.keys()
    save_file(renamed, tmp_path / "run" / "model" / "weights.safetensors")
    state = Run.load(tmp_path / "run", "cpu").tagger.state_dict()
    assert {name: torch.equal(value, weights[name]) for name, value in state.items()} == dict.fromkeys(weights, True)


def test_where_training_starts(encoder: Path, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, meta = settings(encoder, {}), Pack(data[1]).meta
    with pytest.raises(PackError, match="needs the pack's region network, which is missing; build the pack"):
        crop_network(config, pack_meta(), trained=False)
    monkeypatch.setenv("FMIT_MODELS", str(tmp_path))
    todo = rf"set train\.vision\.weights to the path of crops\.pth, or put it into {tmp_path}"
    with pytest.raises(WeightsError, match=rf"weights that made the pack \(found no weights 'crops.*; {todo}"):
        crop_network(config, meta, trained=False)
    (tmp_path / "crops.pth").write_bytes(b"other")
    with pytest.raises(WeightsError, match="not the expected weights"):
        crop_network(config, meta, trained=False)
    named = settings(encoder, {"weights": str(data[0].parent / "models" / "crops.pth")})
    net = crop_network(named, meta, trained=False)
    assert net is not None
    assert (net.dim, net.transform.crop_px, net.batch) == (DIM, 16, 4)
    assert all(parameter.requires_grad for parameter in net.parameters())
    frozen = crop_network(settings(encoder, {"lr": 0.0}), meta, trained=True)
    assert frozen is not None
    assert not any(parameter.requires_grad for parameter in frozen.parameters()), "no gradient to compute"
    assert crop_network(tiny_config(encoder), meta, trained=False) is None


def test_the_pass_over_crops_reads_no_value(encoder: Path, data: Data) -> None:
    """Else a GPU's queue would run dry between network and lattice."""
    tagger, meta = Tagger(), Pack(data[1]).meta
    tagger.crop_net = crop_network(settings(encoder, {}), meta, trained=False)
    pixels, index = torch.zeros(6, 3, 16, 16, dtype=torch.uint8), torch.tensor([[0, 5, 2], [1, -1, -1]])
    mask, spans = torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 3, 2, dtype=torch.int64)
    batch = Batch((0, 1), {}, mask, torch.zeros(2, 3, 0), spans, index >= 0, crops=pixels, crop_index=index)
    with NoWaiting():
        objects = tagger.with_features(batch).objects
        objects.sum().backward()
    assert objects.shape == (2, 3, DIM)
    assert not objects[1, 1:].any()


def test_a_batch_without_any_crop_is_zeros(encoder: Path, data: Data) -> None:
    tagger = Tagger()
    tagger.crop_net = crop_network(settings(encoder, {}), Pack(data[1]).meta, trained=True)
    mask, none = torch.ones(1, 3, dtype=torch.bool), np.zeros((1, 2, 0), np.float32)
    pixels, index = torch.zeros(0, 3, 16, 16, dtype=torch.uint8), torch.full((1, 2), -1)
    spans, real = torch.ones(1, 2, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool)
    batch = Batch((0,), {}, mask, torch.from_numpy(none), spans, real, crops=pixels, crop_index=index)
    assert torch.equal(tagger.with_features(batch).objects, torch.zeros(1, 2, DIM))
