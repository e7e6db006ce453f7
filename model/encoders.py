"""Encoders on disk: where one is, which one it is, and its tokenizer and model, loaded whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertweetTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as chatter

from cache import hub
from cache.model_catalog import MINILM_SHA256
from cache.models import minilm_folder
from model.config import TrainConfig
from schema.errors import WeightsError
from vision.torch_files import DAMAGED, reason

UNREAD = "pooler."  # a layer over [CLS] that nothing here reads: many checkpoints are without it


@dataclass(frozen=True)
class EncoderFiles:
    """A folder with config, tokenizer and weights; `digest` is `cache.hub.digest` of the weights, "" for none.

    `revision` is the commit of a hub model, "" for a folder of one's own.
    """

    folder: Path
    digest: str = ""
    revision: str = ""

    def to_json(self) -> dict[str, str]:
        """What a run says of the encoder that it started from."""
        told = {"encoder": self.digest, "encoder_revision": self.revision}
        return {name: value for name, value in told.items() if value}


def find_encoder(config: TrainConfig) -> EncoderFiles:
    """The encoder that `config` names, if it is here and is the one that `config` pins; asks no network.

    Raises WeightsError that names the command which gets it.
    """
    if config.encoder == "embedded":
        found = EncoderFiles(minilm_folder(), MINILM_SHA256)
    else:
        folder = config.encoder_ref().locate()
        snapshot = folder.name if folder.parent.name == "snapshots" else ""
        found = EncoderFiles(folder, _digest(config, folder), snapshot)
    if config.encoder_digest and found.digest != config.encoder_digest:
        raise WeightsError(
            f"the encoder {config.encoder!r} is not the one that train.encoder_digest names",
            where=str(found.folder),
            found=found.digest,
            todo=f"fmit models fetch {config.encoder}, or name the digest of the one you mean",
        )
    return found


def load_encoder(folder: Path, name: str, *, pretrained: bool) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Tokenizer and model in float32; not `pretrained`: the bare structure.

    No code of the model's own is run and pickles are read as tensors only. Raises WeightsError where a file is damaged,
    or the weights are not all of the model's: transformers would draw what is missing at random.
    """
    verbosity = chatter.get_verbosity()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    here = {"local_files_only": True, "trust_remote_code": False}
    try:
        if wrong := hub.bad_json(folder):
            raise ValueError(wrong)
        tokenizer = _tokenizer(folder)
        if not pretrained:
            return tokenizer, AutoModel.from_config(AutoConfig.from_pretrained(str(folder), **here)).float()
        model, told = AutoModel.from_pretrained(str(folder), output_loading_info=True, **here)
    except (*DAMAGED, OSError, ImportError, SafetensorError) as error:
        raise _unloadable(name, folder, [reason(error)]) from error
    finally:
        chatter.set_verbosity(verbosity)
    lost = sorted(key for key in told["missing_keys"] if not key.startswith(UNREAD))
    if lost:
        raise _unloadable(name, folder, [f"{len(lost)} tensor(s) missing: {', '.join(lost[:3])}"])
    n_known = model.get_input_embeddings().weight.shape[0]
    if tokenizer.vocab_size > n_known:
        raise _unloadable(name, folder, [f"a tokenizer of {tokenizer.vocab_size} pieces, a model of {n_known}"])
    return tokenizer, model.float()


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The folder's tokenizer; ValueError where its files are lacking: transformers makes one that knows no word."""
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if not set(tokenizer.get_vocab()) - {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}:
        raise ValueError("no vocabulary: the tokenizer's files are lacking")
    return as_pretrained(tokenizer)


def as_pretrained(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, set to write text as its model was pretrained on it: BERTweet's @USER, HTTPURL and :emoji_names:.

    Raises WeightsError where the package that names emoji is not there.
    """
    if isinstance(tokenizer, BertweetTokenizer):
        if tokenizer.demojizer is None:
            raise WeightsError("BERTweet reads emoji by their names", todo="pip install 'fmit[bertweet]'")
        tokenizer.normalization = True
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer's files, from which `load_encoder` makes the same one."""
    tokenizer.save_pretrained(folder)
    if isinstance(
        tokenizer, BertweetTokenizer
    ):  # transformers writes merges without the count that it reads behind them
        merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
        lines = [f"{' '.join(merge)} {len(merges) - rank}\n" for rank, merge in enumerate(merges)]
        (folder / tokenizer.vocab_files_names["merges_file"]).write_text("".join(lines), encoding="utf-8")


def _digest(config: TrainConfig, folder: Path) -> str:
    try:
        return hub.digest(folder)
    except WeightsError as error:
        raise _unloadable(config.encoder, folder, [error.what]) from None


def _unloadable(name: str, folder: Path, said: list[str]) -> WeightsError:
    return WeightsError(
        f"cannot load the encoder {name!r}",
        where=str(folder),
        found=(said or ["no reason given"])[0][:300],
        todo=f"fmit models verify {name}; then fetch it again, or give a folder with config, tokenizer and weights",
    )
