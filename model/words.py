"""Words to vectors: a pretrained BERT-type encoder over word pieces, one vector a word, one for [CLS], one for [SEP].

Letters: B posts, T text cells (words + 2), W encoder windows, P pieces of a window, E the encoder's width. In a post of
several windows each word speaks from one of them.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedModel

from kernels.linear import quicken
from model.config import TrainConfig
from model.encoders import EncoderFiles, find_encoder, load_encoder, save_tokenizer
from model.pieces import Pieces
from schema.errors import ConfigError

# Their first two positions are padding's.
SHIFTED_TYPES = (
    *("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "data2vec-text", "xmod"),
    *("longformer", "mpnet", "ibert"),
)
READY_MASK_TYPES = ("bert", "electra", "roberta", "xlm-roberta", "camembert")
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
    """A transformers encoder with the pooling that makes its pieces words. `dim` is E.

    `origin`: digest and revision of the weights that it was loaded with, empty for a bare structure.
    """

    def __init__(self, model: PreTrainedModel, pieces: Pieces, origin: Mapping[str, str]) -> None:
        super().__init__()
        self.model, self.featurizer, self.origin = model, pieces, dict(origin)
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
        save_tokenizer(self.featurizer.tokenizer, folder)


def build_words(config: TrainConfig, folder: Path | None = None) -> WordEncoder:
    """The encoder that `config` names with its pretrained weights, or the bare structure that a run saved in `folder`.

    Never asks the network. Raises WeightsError where the model is not on this machine or is not the one pinned.
    """
    found = EncoderFiles(folder) if folder else find_encoder(config)
    tokenizer, model = load_encoder(found.folder, config.encoder, pretrained=folder is None)
    _check_room(config, model)
    pieces = Pieces(tokenizer, config.max_pieces, config.overflow, config.pooling)
    return WordEncoder(model, pieces, found.to_json())


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
