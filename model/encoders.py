"""Pretrained encoders on disk: find one, check its digest, load its tokenizer and model."""

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
from transformers.utils import logging as transformers_logging

from cache import hub
from cache.models import MINILM_SHA256, minilm_folder
from model.config import TrainConfig
from schema.errors import WeightsError
from vision.torch_files import DAMAGED, reason

UNUSED = "pooler."  # a layer over [CLS] that is never used; many checkpoints lack it


@dataclass(frozen=True)
class EncoderFiles:
    """A folder with config, tokenizer and weights; `digest` is `cache.hub.digest` of the weights, "" for none.

    `revision` is the commit of a hub model, "" for a local folder.
    """

    folder: Path
    digest: str = ""
    revision: str = ""

    def to_json(self) -> dict[str, str]:
        """What a run records of the encoder that it started from."""
        values = {"encoder": self.digest, "encoder_revision": self.revision}
        return {name: value for name, value in values.items() if value}


def find_encoder(config: TrainConfig) -> EncoderFiles:
    """The encoder that `config` names; needs no network.

    Raises WeightsError, with the command that fetches it, if it is not on this machine or is not the pinned one.
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
    """Tokenizer and model in float32; not `pretrained`: the architecture with random weights.

    Runs no code from the folder and reads pickles as tensors only. Raises WeightsError if a file is damaged or a weight
    is missing, which transformers would initialise at random.
    """
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        if wrong := hub.bad_json(folder):
            raise ValueError(wrong)
        tokenizer = _tokenizer(folder)
        if not pretrained:
            return tokenizer, AutoModel.from_config(AutoConfig.from_pretrained(str(folder), **options)).float()
        model, loading = AutoModel.from_pretrained(str(folder), output_loading_info=True, **options)
    except (*DAMAGED, OSError, ImportError, SafetensorError) as error:
        raise _unloadable(name, folder, reason(error)) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    missing = sorted(key for key in loading["missing_keys"] if not key.startswith(UNUSED))
    if missing:
        raise _unloadable(name, folder, f"{len(missing)} tensor(s) missing: {', '.join(missing[:3])}")
    n_embeddings = model.get_input_embeddings().weight.shape[0]
    if tokenizer.vocab_size > n_embeddings:
        raise _unloadable(name, folder, f"a tokenizer of {tokenizer.vocab_size} pieces, a model of {n_embeddings}")
    return tokenizer, model.float()


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The folder's tokenizer; ValueError without its files, for which transformers returns an empty vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if not set(tokenizer.get_vocab()) - {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}:
        raise ValueError("no vocabulary: the tokenizer's files are missing")
    return as_pretrained(tokenizer)


def as_pretrained(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, with the text normalisation of its model's pretraining: BERTweet's @USER, HTTPURL, :emoji_names:.

    Raises WeightsError if the package that names emoji is missing.
    """
    if isinstance(tokenizer, BertweetTokenizer):
        if tokenizer.demojizer is None:
            raise WeightsError("BERTweet needs the package that names emoji", todo="pip install 'fmit[bertweet]'")
        tokenizer.normalization = True
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer's files for `load_encoder`."""
    tokenizer.save_pretrained(folder)
    if isinstance(tokenizer, BertweetTokenizer):  # transformers writes the merges without the counts that it reads
        merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
        lines = [f"{' '.join(merge)} {len(merges) - rank}\n" for rank, merge in enumerate(merges)]
        (folder / tokenizer.vocab_files_names["merges_file"]).write_text("".join(lines), encoding="utf-8")


def _digest(config: TrainConfig, folder: Path) -> str:
    try:
        return hub.digest(folder)
    except WeightsError as error:
        raise _unloadable(config.encoder, folder, error.what) from None


def _unloadable(name: str, folder: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"cannot load the encoder {name!r}",
        where=str(folder),
        found=reason[:300] or "no reason given",
        todo=f"fmit models verify {name}; then fetch it again, or give a folder with config, tokenizer and weights",
    )
