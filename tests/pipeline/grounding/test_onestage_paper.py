"""The published network: its size, its folder, and what cannot be loaded said. Its boxes: test_onestage_release."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.models import digest_of
from cache.weights import load_safetensors, save_safetensors
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import ground_images
from pipeline.grounding.onestage.grounder import PAPER_VERSION, build
from pipeline.grounding.onestage.release import anchors
from pipeline.grounding.registry import build_grounder
from schema.errors import WeightsError
from tests.pipeline.grounding.checkpoints import noise

STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
BERT = {"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
TEXTS = {"bert": BERT, "lstm": {"n_words": 9000, "embedding": 512, "hidden": 512}}


def at(folder: Path, **settings: object) -> GroundConfig:
    return GroundConfig.checked({"grounder": "onestage", "weights": str(folder), **settings}, "data.d.ground")


@pytest.mark.parametrize("text", ["bert", "lstm"])
def test_the_published_size(text: str) -> None:
    sizes = {"size_px": 256, "stem": 32, "stem_stride": 1, "stages": STAGES, "width": 512}
    settings = {"text": text, "text_sizes": TEXTS[text], "sizes": {**sizes, "anchors": anchors("flickr", 256)}}
    with torch.device("meta"):
        network = build(settings)
        seen = network.encode_images(torch.empty(2, 3, 256, 256))
        queries = network.eval().encoder[1:](torch.empty(2, network.encoder[0].dim))
        answers = network.predict(seen, queries)
    assert [tuple(one.shape) for one in seen] == [(2, 512, side, side) for side in (32, 16, 8)]
    assert (tuple(queries.shape), tuple(answers.shape)) == ((2, 512), (2, 3 * (32**2 + 16**2 + 8**2), 5))
    assert network.max_log == math.inf
    eye = sum(value.numel() for value in network.backbone.parameters())
    assert 55e6 < eye < 65e6  # YOLOv3 without its answers, and the three to the common width
    assert network.encoder[0].dim == {"bert": 768, "lstm": 1024}[text]


def test_rows_have_equal_bits_in_any_grouping_and_order(released: Path) -> None:
    grounder = build_grounder(at(released))
    images = [noise(90, 60), noise(40, 100, 1), noise(64, 64, 2), noise(70, 70, 3), noise(30, 20, 4)]
    queries = [["a dog", "the red cat", "left"], [], ["left"], [f"thing {i}, dog" for i in range(10)], ["a dog"]]
    together = ground_images(grounder, images, queries)
    fresh = build_grounder(at(released))
    for image, texts, row in reversed(list(zip(images, queries, together, strict=True))):
        assert [ground_images(fresh, [image], [[text]])[0][0] for text in reversed(texts)] == row[::-1]


def test_identity_is_the_folder_s(released: Path, tmp_path: Path) -> None:
    identity = build_grounder(at(released)).identity
    assert identity == {"name": "onestage", "version": PAPER_VERSION, "weights": digest_of("converted", released)}
    copy = shutil.copytree(released, tmp_path / "copy")
    assert build_grounder(at(copy, digest=identity["weights"])).identity == identity
    settings = json.loads((copy / "config.json").read_text())
    settings["sizes"]["anchors"][0][0] = [9.0, 9.0]
    (copy / "config.json").write_text(json.dumps(settings))
    assert build_grounder(at(copy)).identity != identity


def test_where_it_is_looked_for(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMIT_MODELS", str(tmp_path))
    missing = r"'onestage' is not on this machine .*convert the released \.pth\.tar .*fmit models convert onestage"
    with pytest.raises(WeightsError, match=missing):
        build_grounder(GroundConfig(grounder="onestage"))
    shutil.copytree(released, tmp_path / "onestage")
    assert build_grounder(GroundConfig(grounder="onestage")).identity["weights"] == digest_of("converted", released)


def test_folders_that_are_not_whole(released: Path, tmp_path: Path) -> None:
    for file in ("config.json", "words.txt"):
        copy = shutil.copytree(released, tmp_path / file)
        (copy / file).unlink()
        with pytest.raises(WeightsError, match=r"the one-stage grounder is incomplete \(found FileNotFoundError"):
            build_grounder(at(copy))
    copy = shutil.copytree(released, tmp_path / "weights")
    tensors, _ = load_safetensors(copy / "model.safetensors")
    tensors["heads.0.answer.bias"] = np.zeros(3, np.float32)
    save_safetensors(copy / "model.safetensors", tensors, {})
    with pytest.raises(
        WeightsError, match=r"not the weights of the one-stage grounder \(found .*heads\.0\.answer\.bias"
    ):
        build_grounder(at(copy))
    (copy / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model\.safetensors: cannot be read: No such file"):
        build_grounder(at(copy))


@pytest.mark.parametrize("config", [{"model_type": "owlv2"}, {"model_type": "onestage", "format": 2}])
def test_folders_of_other_models_and_versions(released: Path, tmp_path: Path, config: dict[str, object]) -> None:
    copy = shutil.copytree(released, tmp_path / "copy")
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="not a one-stage grounder that this version reads"):
        build_grounder(at(copy))
