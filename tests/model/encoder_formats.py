"""Tiny encoders in the formats that their publishers release: file names, keys, configuration, tokenizer files.

Weights are random, vocabularies learnt from a few sentences by the library that made the real ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import (
    AutoConfig,
    BertForPreTraining,
    BertTokenizer,
    DebertaV2ForMaskedLM,
    PreTrainedModel,
    RobertaForMaskedLM,
    XLMRobertaForMaskedLM,
)

TEXT = (
    "Ann Lee saw the old harbour of Genoa with Rex and a small dog",
    "RT @ann : new album by The Foxes tonight in London , see http://t.co/x",
    "we walk from Paris to New York and back again with friends",
)
BODY = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
BERT_VOCABULARY = (
    *("[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *"abcdefghijklmnopqrstuvwxyzAGLNPRY@#.:/中国人上海",
    *("##" + letter for letter in "abcdefghijklmnopqrstuvwxyz"),
    *("the", "paris", "gen", "##oa", "Paris", "Gen", "Rex"),
)


def bert(folder: Path, *, uncased: bool) -> Path:
    """As bert-base-*: vocab.txt; safetensors with Google's old names gamma and beta and the heads of pretraining."""
    _write(folder, "vocab.txt", "\n".join(BERT_VOCABULARY) + "\n")
    _write(folder, "tokenizer_config.json", json.dumps({"do_lower_case": uncased, "model_max_length": 512}))
    model = _model(folder, BertForPreTraining, "bert", len(BERT_VOCABULARY), 512, type_vocab_size=2)
    if uncased:  # the uncased one is released with the fast tokenizer's file, too
        BertTokenizer.from_pretrained(folder).backend_tokenizer.save(str(folder / "tokenizer.json"))
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    _safetensors(folder, {_renamed(name, old): value for name, value in model.state_dict().items()})
    return folder


def roberta(folder: Path) -> Path:
    """As roberta-base: byte-level vocab.json and merges.txt; the tensors under `roberta.`, a language model's head."""
    folder.mkdir(parents=True)
    trained = ByteLevelBPETokenizer()
    marks = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(TEXT * 3, vocab_size=320, special_tokens=marks)
    trained.save_model(str(folder))
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5}
    size = trained.get_vocab_size()
    model = _model(folder, RobertaForMaskedLM, "roberta", size, 514, type_vocab_size=1, **ids)
    _safetensors(folder, model.state_dict())
    return folder


def deberta_v3(folder: Path) -> Path:
    """As microsoft/deberta-v3-*: spm.model alone, position terms written "p2c|c2p", a pickle in half precision."""
    folder.mkdir(parents=True)
    marks = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
    names = {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
    size = _sentencepiece(folder / "spm.model", **marks, **names)
    _write(folder, "tokenizer_config.json", json.dumps({"do_lower_case": False, "vocab_type": "spm"}))
    relative = {"relative_attention": True, "position_buckets": 256, "max_relative_positions": -1}
    more = {"norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": "p2c|c2p", "layer_norm_eps": 1e-7}
    more |= {"position_biased_input": False, "type_vocab_size": 0}
    model = _model(folder, DebertaV2ForMaskedLM, "deberta-v2", size + 5, 512, **relative, **more)
    state = {name.replace("cls.predictions", "lm_predictions.lm_head"): one for name, one in model.state_dict().items()}
    torch.save({name: value.half() for name, value in state.items()}, folder / "pytorch_model.bin")
    return folder


def xlm_roberta(folder: Path) -> Path:
    """As xlm-roberta-base: sentencepiece.bpe.model, whose ids the tokenizer shifts by one."""
    folder.mkdir(parents=True)
    size = _sentencepiece(folder / "sentencepiece.bpe.model")
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5}
    model = _model(folder, XLMRobertaForMaskedLM, "xlm-roberta", size + 2, 514, type_vocab_size=1, **ids)
    _safetensors(folder, model.state_dict())
    return folder


def bertweet(folder: Path) -> Path:
    """As vinai/bertweet-base: fastBPE's vocab.txt and bpe.codes, 130 positions, a pickle; no tokenizer settings."""
    pieces = ["@USER", "HTTPURL", "Rex", "the", "Lon@@", "don", ":dog@@", "_face:"]
    pieces += [one + mark for one in "abcdefghijklmnopqrstuvwxyzLR:._@#" for mark in ("@@", "")]
    _write(folder, "vocab.txt", "".join(f"{piece} {900 - k}\n" for k, piece in enumerate(pieces)))
    whole = ["@ U", "@U S", "@US E", "@USE R</w>", "H T", "HT T", "HTT P", "HTTP U", "HTTPU R", "HTTPUR L</w>"]
    merges = [": d", ":d o", ":do g", "_ f", "_f a", "_fa c", "_fac e", "_face :</w>"]
    merges += ["R e", "Re x</w>", "t h", "th e</w>", "L o", "Lo n", "d o", "do n</w>"]
    _write(folder, "bpe.codes", "".join(f"{merge} {900 - k}\n" for k, merge in enumerate(whole + merges)))
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "tokenizer_class": "BertweetTokenizer"}
    model = _model(folder, RobertaForMaskedLM, "roberta", len(pieces) + 5, 130, type_vocab_size=1, **ids)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def _model(
    folder: Path, kind: type[PreTrainedModel], model_type: str, vocab_size: int, positions: int, **more: Any
) -> PreTrainedModel:
    config = {"architectures": [kind.__name__], "model_type": model_type, **BODY, "vocab_size": vocab_size}
    _write(folder, "config.json", json.dumps({**config, "max_position_embeddings": positions, **more}))
    torch.manual_seed(0)
    model = kind(AutoConfig.from_pretrained(folder))
    for name, parameter in model.named_parameters():  # the libraries' own start is so near to zero that words are alike
        torch.nn.init.normal_(parameter, mean=float("Norm.weight" in name), std=0.5 if parameter.dim() > 1 else 0.1)
    return model


def _sentencepiece(path: Path, **marks: Any) -> int:
    def sentences() -> Iterator[str]:
        yield from TEXT * 20

    settings = {"vocab_size": 90, "model_type": "unigram", "hard_vocab_limit": False, "minloglevel": 2}
    stem = path.with_suffix("")
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=sentences(), model_prefix=str(stem), **settings, **marks)
    stem.with_name(stem.name + ".vocab").unlink()
    return int(sentencepiece.SentencePieceProcessor(model_file=str(path)).vocab_size())


def _safetensors(folder: Path, state: Mapping[str, Tensor]) -> None:
    kept = {name: value.clone() for name, value in state.items() if not name.endswith("decoder.weight")}  # tied
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def _write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def _renamed(name: str, pairs: Mapping[str, str]) -> str:
    for new, old in pairs.items():
        name = name.replace(new, old)
    return name
