"""Encoders in their real formats, through the public setting, against transformers called directly."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import sentencepiece
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from cache import hub
from cache.keys import digest_file, key
from cache.models import MINILM
from model.config import TrainConfig
from model.words import WordEncoder, as_pretrained, build_words, find_encoder, load_encoder
from schema.errors import ConfigError, WeightsError
from tests.model import encoder_formats as formats

MAKERS: dict[str, Callable[[Path], Path]] = {
    "bert-cased": partial(formats.bert, uncased=False),
    "bert-uncased": partial(formats.bert, uncased=True),
    "roberta": formats.roberta,
    "deberta-v3": formats.deberta_v3,
    "xlm-roberta": formats.xlm_roberta,
    "bertweet": formats.bertweet,
}
POST = ("Rex", "saw", "the", "harbour", "of", "Genoa", "with", "@ann", "http://t.co/x")
ODD = ("Rex", "\u00a0", "Paris", "\ufe0f", "\u00ad", "中", "🐶", "London")
LOCAL = {"local_files_only": True}


@pytest.fixture(scope="module", params=MAKERS)
def released(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "bertweet":
        pytest.importorskip("emoji", reason="BERTweet needs fmit[bertweet]")
    return MAKERS[request.param](tmp_path_factory.mktemp("encoders") / request.param)


def config(folder: Path | str, **changes: object) -> TrainConfig:
    return TrainConfig.from_section({"preset": "tiny", "encoder": str(folder), **changes}, "data.d.train", PRESETS)


PRESETS = {"tiny": TrainConfig(width=16, heads=2, layers=1)}


def ours(words: WordEncoder, post: Sequence[str]) -> Tensor:
    """Vectors [T, E] of a post beside another one."""
    inputs = words.featurizer.collate([words.featurizer.encode(post), words.featurizer.encode(["Rex"] * 3)])
    with torch.no_grad():
        return words.eval()(inputs, 2)[0, : len(post) + 2]


def by_hand(folder: Path, post: Sequence[str], pooling: str) -> tuple[list[int], Tensor]:
    """Ids of the post's pieces and vectors [T, E]: a direct call of transformers, words pooled one by one."""
    tokenizer = as_pretrained(AutoTokenizer.from_pretrained(folder, **LOCAL))
    model = AutoModel.from_pretrained(folder, **LOCAL).float().eval()
    lead = " " if "roberta" in folder.name and "xlm" not in folder.name else ""
    ids, spans = [tokenizer.cls_token_id], []
    for word in post:
        pieces = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(lead + word)) or [tokenizer.unk_token_id]
        spans.append((len(ids), len(ids) + (len(pieces) if pooling == "mean" else 1)))
        ids += pieces
    ids.append(tokenizer.sep_token_id)
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return ids, torch.stack([hidden[0], *(hidden[start:end].mean(0) for start, end in spans), hidden[-1]])


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_word_vectors_are_those_of_transformers(released: Path, pooling: str) -> None:
    for post in (POST, ODD):
        words = build_words(config(released, pooling=pooling))
        ids, expected = by_hand(released, post, pooling)
        assert words.featurizer.encode(post).windows == (tuple(ids),)
        assert expected.std(0).mean() > 0.1, "words differ, or the test shows nothing"
        torch.testing.assert_close(ours(words, post), expected, atol=1e-4, rtol=0)


def test_pieces_are_those_of_a_whole_post(released: Path) -> None:
    """The tokenizer's own way with words that are given; BERTweet, which has none, reads its normalised text."""
    words, tokenizer = build_words(config(released)), whole(released)
    asked = {"is_split_into_words": True} if tokenizer.is_fast else {}
    given = tokenizer(list(POST) if tokenizer.is_fast else " ".join(POST), **asked)["input_ids"]
    assert list(words.featurizer.encode(POST).windows[0]) == given
    assert len(set(given)) > len(POST), "few pieces are unknown"


def whole(folder: Path) -> PreTrainedTokenizerBase:
    more = {"add_prefix_space": True} if folder.name == "roberta" else {}
    return as_pretrained(AutoTokenizer.from_pretrained(folder, **LOCAL, **more))


@pytest.mark.parametrize(("name", "file", "shift"), [("deberta-v3", "spm", 0), ("xlm-roberta", "sentencepiece.bpe", 1)])
def test_sentencepiece_ids_are_the_library_s_own(name: str, file: str, shift: int, tmp_path: Path) -> None:
    folder = MAKERS[name](tmp_path / name)
    library = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{file}.model"))
    words = build_words(config(folder))
    for word in POST:
        assert list(words.featurizer.of_word(word)) == [3 if k == library.unk_id() else k + shift for k in
                                                        library.encode(word)]  # fmt: skip


def test_bertweet_reads_text_as_it_was_pretrained(tmp_path: Path) -> None:
    pytest.importorskip("emoji", reason="BERTweet needs fmit[bertweet]")
    words = build_words(config(formats.bertweet(tmp_path / "bertweet")))
    tokenizer = words.featurizer.tokenizer
    found = [tokenizer.convert_ids_to_tokens(words.featurizer.of_word(one)) for one in ("@ann", "http://t.co/x", "🐶")]
    assert found == [["@USER"], ["HTTPURL"], [":dog@@", "_face:"]]


def test_a_run_reads_words_as_its_training_did(released: Path, tmp_path: Path) -> None:
    words = build_words(config(released)).eval()
    words.save(tmp_path)
    again = build_words(config("gone"), tmp_path)
    again.load_state_dict(words.state_dict())
    assert again.origin == {}
    for post in (POST, ODD):
        assert again.featurizer.encode(post) == words.featurizer.encode(post)
        assert torch.equal(ours(again, post), ours(words, post))


def test_bertweet_without_emoji_names_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "emoji", None)
    with pytest.raises(WeightsError, match=r"BERTweet needs the package emoji; pip install 'fmit\[bertweet\]'"):
        build_words(config(formats.bertweet(tmp_path / "bertweet")))


def test_chinese_characters_are_words(tmp_path: Path) -> None:
    folder = formats.bert(tmp_path / "bert-base-chinese", uncased=False)
    words, post = build_words(config(folder)), tuple("中国人上海𠀀")
    vocabulary = {piece: index for index, piece in enumerate(formats.BERT_VOCABULARY)}
    pieces = ["[CLS]", *"中国人上海", "[UNK]", "[SEP]"]
    assert words.featurizer.encode(post).windows[0] == tuple(vocabulary[piece] for piece in pieces)
    torch.testing.assert_close(ours(words, post), by_hand(folder, post, "first")[1], atol=1e-4, rtol=0)
    together = ours(build_words(config(folder, pooling="mean")), ("中国人", "上海"))
    torch.testing.assert_close(together, by_hand(folder, ("中国人", "上海"), "mean")[1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("overflow", ["window", "truncate"])
def test_posts_beyond_the_pieces_of_one_pass(released: Path, overflow: str) -> None:
    """128 pieces, BERTweet's very limit: windows give each word its vector, truncation whole words of one pass."""
    post = (*POST, *ODD) * 12
    words = build_words(config(released, overflow=overflow))
    encoded = words.featurizer.encode(post)
    assert max(len(row) for row in encoded.windows) <= 128
    found = ours(words, post[: encoded.n_words])
    if overflow == "truncate":
        assert len(encoded.windows) == 1
        assert 10 < encoded.n_words < len(post)
        torch.testing.assert_close(found, by_hand(released, post[: encoded.n_words], "first")[1], atol=1e-4, rtol=0)
    else:
        assert len(encoded.windows) > 1
        assert encoded.n_words == len(post)
        assert (found.std(1) > 0).all(), "no word without a vector"


def test_more_pieces_than_the_model_has_positions(released: Path) -> None:
    limit = 128 if released.name == "bertweet" else 512
    post = POST * 80
    assert len(build_words(config(released, max_pieces=limit)).featurizer.encode(post).windows[0]) > limit - 20
    assert ours(build_words(config(released, max_pieces=limit)), post).isfinite().all()
    with pytest.raises(
        ConfigError, match=rf"max_pieces exceeds the positions of the encoder \(found {limit + 1} of {limit}\)"
    ):
        build_words(config(released, max_pieces=limit + 1))


def test_the_weights_are_named_and_pinned(released: Path) -> None:
    files = sorted(released.glob("*.safetensors")) + sorted(released.glob("*.bin"))
    digest = digest_file(files[0])
    words = build_words(config(released, encoder_digest=digest))
    assert words.origin == {"encoder": digest}
    with pytest.raises(WeightsError, match=r"does not match train\.encoder_digest \(found [0-9a-f]{64}\)"):
        build_words(config(released, encoder_digest="0" * 64))


def test_a_run_names_its_encoder(encoder: Path, run_folder: Path) -> None:
    values = json.loads((run_folder / "model" / "config.json").read_text())
    assert values["inputs"]["encoder"] == digest_file(encoder / "model.safetensors")


def test_a_hub_model_is_found_by_name_and_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = formats.bert(tmp_path / "downloaded", uncased=False)
    with pytest.raises(WeightsError, match=r"'owner/tiny' is not on this machine.*fmit models fetch owner/tiny, or"):
        build_words(config("owner/tiny"))
    hub.install("owner/tiny", folder, "a" * 40)
    found = build_words(config("owner/tiny", encoder_revision="a" * 40))
    assert found.origin == {"encoder": digest_file(folder / "model.safetensors"), "encoder_revision": "a" * 40}
    with pytest.raises(WeightsError, match=rf"not in the Hugging Face cache at revision {'b' * 40}"):
        build_words(config("owner/tiny", encoder_revision="b" * 40))


def test_sharded_weights_have_one_digest(tmp_path: Path) -> None:
    folder = formats.bert(tmp_path / "bert", uncased=False)
    one = ours(build_words(config(folder)), POST)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = {name: f"model-0000{1 + k % 2}-of-00002.safetensors" for k, name in enumerate(sorted(state))}
    for file in set(names.values()):
        save_file({name: state[name] for name in names if names[name] == file}, folder / file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    words = build_words(config(folder))
    files = {file: digest_file(folder / file) for file in set(names.values())}
    assert words.origin["encoder"] == key("model-folder", files=files)
    assert torch.equal(ours(words, POST), one)


class Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, ("echo ran > ran.txt",)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("emoji", reason="BERTweet needs fmit[bertweet]")
    folder = formats.bertweet(tmp_path / "bertweet")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError, match="cannot load the encoder"):
        build_words(config(folder))
    assert not (tmp_path / "ran.txt").exists()


def test_code_of_the_model_s_own_is_not_run(tmp_path: Path) -> None:
    folder = formats.bert(tmp_path / "bert", uncased=False)
    values = json.loads((folder / "config.json").read_text())
    values |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "own.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises(WeightsError, match="cannot load the encoder"):
        build_words(config(folder))


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.safetensors"])
def test_files_cut_short_are_named(name: str, tmp_path: Path) -> None:
    folder = formats.bert(tmp_path / "bert", uncased=True)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match=r"cannot load the encoder .*fmit models verify"):
        build_words(config(folder))


def test_weights_with_a_hole_are_refused(tmp_path: Path) -> None:
    """transformers fills a missing tensor with random numbers and says so in a log only."""
    folder = formats.bert(tmp_path / "bert", uncased=False)
    state = load_file(folder / "model.safetensors")
    lost = "bert.encoder.layer.1.output.dense.weight"
    save_file({name: value for name, value in state.items() if name != lost}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 tensor\(s\) missing: encoder\.layer\.1\.output\.dense\.weight"):
        build_words(config(folder))
    without_pooler = {name: value for name, value in state.items() if "pooler" not in name}
    save_file(without_pooler, folder / "model.safetensors")
    assert build_words(config(folder)).dim == 32


@pytest.mark.parametrize("kept", [(), ("tokenizer_config.json",)])
def test_a_folder_without_its_tokenizer_is_refused(encoder: Path, tmp_path: Path, kept: tuple[str, ...]) -> None:
    """Transformers makes one of special tokens alone, to which every word is unknown."""
    folder = tmp_path / "encoder"
    shutil.copytree(encoder, folder)
    for file in folder.iterdir():
        if file.name not in ("config.json", "model.safetensors", *kept):
            file.unlink()
    with pytest.raises(WeightsError, match=r"no vocabulary: the tokenizer's files are missing"):
        load_encoder(folder, "mine", pretrained=True)
    with pytest.raises(WeightsError, match=r"no vocabulary"):
        load_encoder(folder, "mine", pretrained=False)


def test_a_tokenizer_of_another_model_is_refused(encoder: Path, tmp_path: Path) -> None:
    """Its ids would lie beyond the model's: an index error deep inside, on whatever post has one."""
    folder = tmp_path / "encoder"
    shutil.copytree(encoder, folder)
    model = AutoModel.from_pretrained(folder)
    model.resize_token_embeddings(7)
    model.save_pretrained(folder)
    with pytest.raises(WeightsError, match=r"the tokenizer has \d+ pieces, the model 7"):
        load_encoder(folder, "mine", pretrained=True)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    folder = formats.bert(tmp_path / "bert", uncased=False)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="no weights in the model's folder"):
        build_words(config(folder))
    shutil.rmtree(folder)
    with pytest.raises(WeightsError, match="is not on this machine"):
        build_words(config(folder))


def test_embedded_is_the_pinned_minilm() -> None:
    assert find_encoder(config("embedded"))[1] == {"encoder": MINILM.digest}
    with pytest.raises(WeightsError, match="'embedded' does not match"):
        find_encoder(config("embedded", encoder_digest="0" * 64))
