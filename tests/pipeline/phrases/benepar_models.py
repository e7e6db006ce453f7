"""Tiny benepar models in the formats of the real ones, with random weights: a release folder and a checkpoint file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from benepar import nkutil, parse_chart
from transformers import BertConfig, BertModel, BertTokenizerFast, T5Config, T5TokenizerFast

from pipeline.phrases import benepar

LABELS = {"": 0, "NP": 1, "S": 2, "S::VP": 3, "VP": 4, "PP": 5}
TAGS = {"UNK": 0, "NN": 1, "VB": 2}
WORDS = ("a", "the", "left", "Jordan", "saw", "dog", "##s", "near", ".", "tiny", "##y", "x")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def hparams(**changed: Any) -> dict[str, Any]:
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_heads": 2, "num_layers": 2, "d_label_hidden": 16}
    dropouts = (
        "morpho_emb_dropout",
        "relu_dropout",
        "residual_dropout",
        "attention_dropout",
        "char_lstm_input_dropout",
    )
    more = {"d_tag_hidden": 16, "tag_loss_scale": 1.0, "d_char_emb": 8, "encoder_max_len": 512, "predict_tags": True}
    kinds = {"use_chars_lstm": False, "use_pretrained": False, "use_encoder": True, "pretrained_model": "none"}
    return {**sizes, **dict.fromkeys(dropouts, 0.2), **more, **kinds, "force_root_constituent": True, **changed}


def bert_folder(folder: Path, seed: int = 0) -> Path:
    """`config.json` with a `benepar` block, `benepar_model.bin` and the tokenizer's files, as benepar_en3_large has."""
    bert = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    parser = _release(folder, bert, hparams(use_pretrained=True), seed)
    state = {**parser.state_dict(), "pretrained_model.embeddings.position_ids": torch.arange(64)[None]}
    assert isinstance(parser.pretrained_model, BertModel)
    torch.save(state, folder / "benepar_model.bin")
    return folder


def t5_folder(folder: Path, seed: int = 0) -> Path:
    """The same over T5, as benepar_en3: its decoder's outputs are read, and an old state dict has one tensor more."""
    t5 = T5Config(
        vocab_size=len(SPECIAL) + len(WORDS),
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    parser = _release(folder, t5, hparams(use_pretrained=True), seed)
    gone = "pretrained_model.decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    torch.save({**parser.state_dict(), gone: torch.zeros(32, 2)}, folder / "benepar_model.bin")
    return folder


def _release(folder: Path, encoder: Any, settings: dict[str, Any], seed: int) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _t5_tokenizer() if isinstance(encoder, T5Config) else _bert_tokenizer(folder)
    tokenizer.save_pretrained(folder)
    encoder.benepar = {"tag_vocab": TAGS, "label_vocab": LABELS, "char_vocab": None, "hparams": settings}
    encoder.save_pretrained(folder)
    torch.manual_seed(seed)
    with benepar.compatible_tokenizers():
        made = parse_chart.ChartParser(
            TAGS, LABELS, None, nkutil.HParams(**settings), pretrained_model_path=str(folder)
        )
    return _shaken(made)


def _bert_tokenizer(folder: Path) -> Any:
    (folder / "vocab.txt").write_text("\n".join((*SPECIAL, *WORDS)))
    return BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=False, model_max_length=64)


def _t5_tokenizer() -> Any:
    pieces = ["▁", *(f"▁{word}" for word in WORDS if not word.startswith("#")), "s", "y"]
    scores = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -2.0) for piece in pieces)]
    return T5TokenizerFast(vocab=scores, extra_ids=0, model_max_length=64)


def char_checkpoint(path: Path, seed: int = 0) -> Path:
    """The one-file checkpoint of benepar's trainer, over characters."""
    settings = hparams(use_chars_lstm=True)
    characters = {chr(code): code for code in range(256)}
    torch.manual_seed(seed)
    parser = _shaken(parse_chart.ChartParser(TAGS, LABELS, characters, nkutil.HParams(**settings)))
    torch.save({"config": parser.config, "state_dict": parser.state_dict()}, path)
    return path


def _shaken(parser: Any) -> Any:
    """Random weights large enough that trees differ from sentence to sentence."""
    with torch.no_grad():
        for name, value in parser.named_parameters():
            if name.startswith("f_label.3"):
                value.normal_(0, 0.6)
    return parser.eval()
