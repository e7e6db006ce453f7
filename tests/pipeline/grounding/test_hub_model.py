"""Which folder is taken, what names its numbers, and what cannot be loaded said."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Owlv2ImageProcessor, Owlv2ImageProcessorPil

from cache import hub
from cache.keys import digest_file
from pipeline.grounding import hub_model
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.registry import build_grounder
from schema.errors import WeightsError
from tests.pipeline.grounding.checkpoints import write_json
from vision.crops import bounded


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def config(folder: Path | str, **settings: object) -> GroundConfig:
    return GroundConfig.checked({"grounder": "owlv2", "weights": str(folder), **settings}, "data.d.ground")


def test_a_name_of_the_hub_is_looked_up_on_this_machine(owl: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"the grounder 'a/owl' is not on this machine .*; fmit models fetch a/owl"):
        build_grounder(config("a/owl"))
    named = {"revision": "v1"}
    hub.install("a/owl", owl, "v1")
    assert hub_model.find_folder(config("a/owl", **named)) == tmp_path / "models--a--owl" / "snapshots" / "v1"
    assert build_grounder(config("a/owl", **named)).identity == build_grounder(config(owl)).identity
    with pytest.raises(WeightsError, match=r"'a/owl' is not on this machine .* at revision v2\); fmit models fetch"):
        build_grounder(config("a/owl", revision="v2"))


def test_without_a_name_the_usual_model_is_meant(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for grounder, name in (
        ("owlv2", "google/owlv2-base-patch16-ensemble"),
        ("grounding-dino", "IDEA-Research/grounding-dino-tiny"),
    ):
        with pytest.raises(WeightsError, match=f"fmit models fetch {name}"):
            build_grounder(GroundConfig.checked({"grounder": grounder}, "data.d.ground"))


def test_a_pinned_digest_is_checked(owl: Path) -> None:
    digest = digest_file(owl / "model.safetensors")
    assert build_grounder(config(owl, digest=digest)).identity["weights"] == digest
    with pytest.raises(WeightsError, match=rf"does not match ground\.digest \(found {digest}\)"):
        build_grounder(config(owl, digest="0" * 64))


@pytest.mark.parametrize(
    ("file", "lost"),
    [
        ("config.json", "config.json"),
        ("preprocessor_config.json", "preprocessor_config.json"),
        ("vocab.json", "tokenizer"),
        ("model.safetensors", "weights"),
    ],
)
def test_a_folder_that_lacks_a_file(owl: Path, tmp_path: Path, file: str, lost: str) -> None:
    folder = copied(owl, tmp_path / "m")
    (folder / file).unlink()
    with pytest.raises(
        WeightsError, match=rf"the model is incomplete \(found no {lost}\); give the folder of a complete"
    ):
        build_grounder(config(folder))


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.json"])
def test_a_file_of_settings_that_is_cut_short(owl: Path, tmp_path: Path, file: str) -> None:
    folder = copied(owl, tmp_path / "m")
    (folder / file).write_bytes((owl / file).read_bytes()[:30])
    with pytest.raises(WeightsError, match=rf"the model is incomplete \(found {file}: .*\); give the folder"):
        build_grounder(config(folder))


def test_weights_that_are_damaged_or_lack_tensors(owl: Path, tmp_path: Path) -> None:
    folder = copied(owl, tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    del tensors["box_head.dense0.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"the owlv2 model is incomplete \(found 1 tensor.*box_head\.dense0\.weight"):
        build_grounder(config(folder))
    tensors["box_head.dense0.weight"] = torch.zeros(3, 3)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"owlv2 model"):
        build_grounder(config(folder))
    (folder / "model.safetensors").write_bytes((owl / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(WeightsError, match="cannot load the owlv2 model"):
        build_grounder(config(folder))


@pytest.mark.parametrize("content", ["[]", "{}"])
def test_a_tokenizer_that_is_json_and_no_tokenizer(owl: Path, tmp_path: Path, content: str) -> None:
    folder = copied(owl, tmp_path / "m")
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(WeightsError, match="cannot load the tokenizer"):
        build_grounder(config(folder))


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_that_are_a_pickle_of_code_are_refused(owl: Path, tmp_path: Path, zipped: bool) -> None:
    folder, mark = copied(owl, tmp_path / "m"), tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (mark,)

    (folder / "model.safetensors").unlink()
    torch.save({"x": Hostile()}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"cannot load the owlv2 model \(found .*GLOBAL.*give the folder"):
        build_grounder(config(folder))
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(WeightsError, match="cannot load the owlv2 model"):
        build_grounder(config(folder))
    assert not mark.exists()


def test_another_model_and_code_of_a_folder_are_refused(owl: Path, dino: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"not a model of type owlv2 \(found grounding-dino\)"):
        build_grounder(config(dino))
    folder = copied(owl, tmp_path / "m")
    mark = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')\n")
    auto_map = {"AutoConfig": "own.C", "AutoModel": "own.M"}
    write_json(folder / "config.json", {"model_type": "own", "auto_map": auto_map})
    with pytest.raises(WeightsError, match="cannot load the owlv2 model"):
        build_grounder(config(folder))
    assert not mark.exists()


def test_processors_by_their_form(owl: Path) -> None:
    assert type(hub_model.image_processor("Owlv2", owl, "torchvision")) is Owlv2ImageProcessor
    assert type(hub_model.image_processor("Owlv2", owl, "pil")) is Owlv2ImageProcessorPil


def test_identity_covers_settings_and_vocabulary_but_no_card(owl: Path, tmp_path: Path) -> None:
    folder = copied(owl, tmp_path / "m")
    before = hub_model.identity(config(folder), folder, "1")
    assert set(before) == {"name", "version", "weights", "files", "image_processor", "dtype"}
    (folder / "README.md").write_text("a card")
    assert hub_model.identity(config(folder), folder, "1") == before
    (folder / "merges.txt").write_text("#version: 0.2\n")
    assert hub_model.identity(config(folder), folder, "1")["files"] != before["files"]


def test_a_giant_image_is_made_smaller_and_others_stay() -> None:
    image = Image.fromarray(np.arange(3000, dtype=np.uint8).reshape(20, 50, 3))
    assert bounded(image, 200) is not None
    assert bounded(image, 52).size == (50, 20)
    assert bounded(image, 20).size == (20, 8)
    assert bounded(Image.new("L", (9000, 1)), 20).size == (20, 1)


def test_a_cpu_takes_one_image_a_pass() -> None:
    assert hub_model.n_batch(GroundConfig(device="cpu", batch=7)) == 1
    assert hub_model.n_batch(GroundConfig(device="cuda", batch=7)) == 7
    assert hub_model.n_batch(GroundConfig(device="cuda")) == hub_model.GPU_BATCH
