"""Released checkpoints convert, and give the boxes of a decoder written in plain loops; other pickles are refused."""

import json
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import ground_images
from pipeline.grounding.onestage.release import ANCHORS, convert, read_state, read_words
from pipeline.grounding.registry import build_grounder
from schema.errors import WeightsError
from tests.pipeline.grounding import released
from tests.pipeline.grounding.checkpoints import noise

SIZE_PX = 64
TEXTS = ["a left dog", "The red cats, left dogs."]
IMAGES = [noise(50, 40), noise(90, 130, 1)]  # one is made larger, one smaller


@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize(("kind", "trained_on"), [("bert", "flickr"), ("lstm", "refcoco")])
def test_boxes_are_those_of_the_released_network(tmp_path: Path, kind: str, trained_on: str, scale: int) -> None:
    made = released.checkpoint(kind, seed=scale)
    made["state_dict"][f"module.fcn_out.{scale}.1.bias"][4::5] += 4.0  # the answer comes from this scale
    torch.save(made, tmp_path / "w.pth.tar", _use_new_zipfile_serialization=False)
    words = released.words(tmp_path, kind)
    settings = convert(tmp_path / "w.pth.tar", tmp_path / "w", words=words, trained_on=trained_on, size_px=SIZE_PX)
    assert (settings["text"], settings["trained_on"]) == (kind, trained_on)
    grounder = build_grounder(GroundConfig(grounder="onestage", weights=str(tmp_path / "w")))
    found = ground_images(grounder, IMAGES, [TEXTS] * 2)
    assert len({one.xyxy for row in found for one in row}) == 4
    for image, row in zip(IMAGES, found, strict=True):
        for text, one in zip(TEXTS, row, strict=True):
            ids = grounder.reader.encode(text)
            box, score = released.best_box(made["state_dict"], image, ids, list(ANCHORS[trained_on]), SIZE_PX)
            assert one.xyxy == pytest.approx(box, abs=0.05)
            assert one.score == pytest.approx(score, rel=1e-3)


def test_norms_of_older_releases_have_other_names(tmp_path: Path) -> None:
    made, words = released.checkpoint("bert"), released.words(tmp_path, "bert")
    torch.save(made, tmp_path / "new_flickr.pth.tar")
    torch.save({**made, "state_dict": released.older(made["state_dict"])}, tmp_path / "old_flickr.pth.tar")
    for name in ("new", "old"):
        convert(tmp_path / f"{name}_flickr.pth.tar", tmp_path / name, words=words, size_px=SIZE_PX)
    assert (tmp_path / "new/model.safetensors").read_bytes() == (tmp_path / "old/model.safetensors").read_bytes()


def test_equal_files_give_equal_folders(tmp_path: Path) -> None:
    file, words = released.write(tmp_path)
    for name in ("a", "b"):
        convert(file, tmp_path / name, words=words, size_px=SIZE_PX)
    for name in ("config.json", "model.safetensors", "words.txt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    settings = json.loads((tmp_path / "a/config.json").read_text())
    assert (settings["model_type"], settings["format"], settings["trained_on"]) == ("onestage", 1, "flickr")


def test_tensors_of_a_gpu_and_numbers_of_numpy_are_read(tmp_path: Path) -> None:
    """The released files were saved on a GPU by torch before 1.0, and hold a score that is a number of NumPy's."""
    file, _ = released.write(tmp_path)
    data = file.read_bytes().replace(b"ctorch\nFloatStorage\n", b"ctorch.cuda\nFloatStorage\n")
    data = data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
    assert data != file.read_bytes()
    assert b"numpy" in data
    (tmp_path / "gpu.pth.tar").write_bytes(data)
    read, expected = read_state(tmp_path / "gpu.pth.tar"), released.checkpoint("lstm")["state_dict"]
    assert {f"module.{name}" for name in read} == set(expected)
    assert all(torch.equal(value, expected[f"module.{name}"]) for name, value in read.items())


class Evil:
    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('ran').touch()",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (Evil(), "exec"),
        (Path("x"), r"pathlib\.\w*Path"),
        (torch.nn.Linear(2, 2), "Linear"),
        (np.zeros(3), "_reconstruct"),
    ],
)
def test_a_pickle_of_anything_but_tensors_is_refused(tmp_path, monkeypatch, thing, name, zipped) -> None:
    monkeypatch.chdir(tmp_path)
    made = {**released.checkpoint("lstm"), "extra": thing}
    torch.save(made, "flickr.pth.tar", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        WeightsError,
        match=rf"flickr\.pth\.tar: rejected: the file is damaged or contains more than tensors.*{name}",
    ):
        convert(Path("flickr.pth.tar"), Path("out"), words=released.words(tmp_path, "lstm"), size_px=SIZE_PX)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_what_stands_in_for_a_number_calls_nothing(tmp_path: Path) -> None:
    """The allowed names stand for our own class: NumPy's functions are not reached through them."""
    data = pickle.dumps({"state_dict": {}, "best_loss": np.float64(1)}, 2)
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(WeightsError, match=r"rejected|not a state_dict of tensors"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"<html>no such file</html>", b"PK\x03\x04" + bytes(50)])
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth.tar").write_bytes(content)
    with pytest.raises(WeightsError, match="rejected: the file is damaged or contains more than tensors"):
        read_state(tmp_path / "w.pth.tar")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_state(tmp_path / "nowhere.pth.tar")


@pytest.mark.parametrize("value", [[1, 2], {"state_dict": {}}, {"epoch": 3}, {"state_dict": {"a": 1}}, torch.ones(2)])
def test_pickles_without_a_state_dict(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "w.pth.tar")
    with pytest.raises(WeightsError, match="not a state_dict of tensors"):
        read_state(tmp_path / "w.pth.tar")


def test_other_layouts_are_named(tmp_path: Path) -> None:
    words = released.words(tmp_path, "lstm")

    def refused(change, text: str) -> None:
        state = released.checkpoint("lstm")["state_dict"]
        change(state)
        torch.save({"state_dict": state}, tmp_path / "flickr.pth.tar")
        with pytest.raises(WeightsError, match=text):
            convert(tmp_path / "flickr.pth.tar", tmp_path / "out", words=words, size_px=SIZE_PX)

    lost = "module.mapping_lang.4.bias"
    refused(lambda state: state.pop(lost), r"not a one-stage checkpoint \(found no tensor mapping_lang\.4\.bias\)")
    refused(lambda state: state.update({"module.more": torch.ones(1)}), r"1 unknown tensor\(s\), such as more")
    refused(
        lambda state: state.update({lost: torch.ones(3)}), r"1 tensor\(s\) with a different shape.*encoder\.4\.bias"
    )
    refused(lambda state: state[lost].fill_(float("nan")), r"or not finite, such as encoder\.4\.bias")
    light = {"module.fcn_out.0.0.weight": torch.ones(15, 16, 1, 1)}
    refused(lambda state: state.update(light), r"not the full model \(found a model trained with --light\)")
    refused(lambda state: state.clear() or state.update({"module.a": torch.ones(1)}), "no tensor visumodel")


def test_words_that_are_not_the_network_s(tmp_path: Path) -> None:
    file, words = released.write(tmp_path)

    def refused(lines: list[str], text: str) -> None:
        words.write_text("\n".join(lines))
        with pytest.raises(WeightsError, match=text):
            convert(file, tmp_path / "out", words=words, size_px=SIZE_PX)

    refused(released.CORPUS[:-1], "11 words for 12 vectors; give the words that")
    refused(released.CORPUS[::-1], r"a word list must start with <pad> and contain <unk> and <eos>")
    words.unlink()
    with pytest.raises(WeightsError, match="cannot read the words"):
        convert(file, tmp_path / "out", words=words, size_px=SIZE_PX)


def test_the_toolkit_s_own_word_list_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("utils.word_utils")
    for name in ("Corpus", "Dictionary", "Other"):
        setattr(module, name, type(name, (), {"__module__": "utils.word_utils"}))
    monkeypatch.setitem(sys.modules, "utils", types.ModuleType("utils"))
    monkeypatch.setitem(sys.modules, "utils.word_utils", module)
    corpus, dictionary = module.Corpus(), module.Dictionary()
    dictionary.idx2word, dictionary.word2idx = released.CORPUS, {word: i for i, word in enumerate(released.CORPUS)}
    corpus.dictionary, corpus.max_len = dictionary, 20
    for zipped in (True, False):
        torch.save(corpus, tmp_path / "corpus.pth", _use_new_zipfile_serialization=zipped)
        assert read_words(tmp_path / "corpus.pth") == released.CORPUS
    torch.save(module.Other(), tmp_path / "corpus.pth")
    with pytest.raises(WeightsError, match=r"rejected.*utils\.word_utils\.Other"):
        read_words(tmp_path / "corpus.pth")
    torch.save({"a": 1}, tmp_path / "corpus.pth")
    with pytest.raises(WeightsError, match=r"not a word list of the toolkit \(found dict\)"):
        read_words(tmp_path / "corpus.pth")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("model_flickr_batch32_model_best.pth.tar", "flickr"),
        ("unc+_best.pth.tar", "refcoco"),
        ("referit.pth.tar", "referit"),
        ("launch.pth.tar", ""),
        ("flickr_or_referit.pth.tar", ""),
    ],
)
def test_the_file_s_name_tells_the_anchors_or_they_must_be_said(tmp_path: Path, name: str, data: str) -> None:
    file, words = released.write(tmp_path, name=name)
    if data:
        assert convert(file, tmp_path / "out", words=words, size_px=SIZE_PX)["trained_on"] == data
        return
    with pytest.raises(WeightsError, match="which selects the anchors: one of flickr, referit, refcoco"):
        convert(file, tmp_path / "out", words=words, size_px=SIZE_PX)
