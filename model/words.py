"""Words to vectors: a pretrained BERT-type encoder over word pieces, one vector a word, one for [CLS], one for [SEP].

Letters: B posts, T text cells (words + 2), W encoder windows, P pieces of a window, E the encoder's width. In a post of
several windows each word speaks from one of them.

Words to word pieces, word by word; posts with more pieces than the encoder takes become overlapping windows.

Letters: T text cells (words + 2), W encoder windows, P pieces of a window.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kernels import use_onednn
from model.config import TrainConfig
from model.encoders import EncoderFiles, find_encoder, load_encoder, save_tokenizer
from schema.errors import ConfigError, WeightsError

CONTEXT_SHARE = 4  # a further window repeats up to 1/4 of its pieces from the one before: ours
NO_CELL = -1


@dataclass(frozen=True)
class Encoded:
    """A post as windows of piece ids; `cells` gives each piece's text cell, or -1 where its window does not speak."""

    windows: tuple[tuple[int, ...], ...]
    cells: tuple[tuple[int, ...], ...]
    n_words: int  # words that have a vector: all of them unless overflow is "truncate"


class Pieces:
    """Words to piece ids, word by word, so that fast and slow tokenizers align alike."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_pieces: int, overflow: str, pooling: str) -> None:
        for name in ("cls_token_id", "sep_token_id", "unk_token_id", "pad_token_id"):
            if getattr(tokenizer, name) is None:
                raise WeightsError(
                    f"the encoder's tokenizer has no {name}", todo="use a BERT-type model with [CLS], [SEP] and [UNK]"
                )
        self.tokenizer, self.room = tokenizer, max_pieces - 2
        self.overflow, self.pooling = overflow, pooling
        # byte-level vocabularies mark a word's start by the space before it
        self._lead = " " if tokenizer.tokenize(" a") != tokenizer.tokenize("a") else ""
        self._known: dict[str, tuple[int, ...]] = {}

    def of_word(self, word: str) -> tuple[int, ...]:
        """Piece ids of a word; the unknown piece where it yields none (U+00A0, U+FE0F), cut to one window."""
        if word not in self._known:
            names = self.tokenizer.tokenize(self._lead + word) or [self.tokenizer.unk_token]
            ids: Any = self.tokenizer.convert_tokens_to_ids(names[: self.room])
            self._known[word] = tuple(ids)
        return self._known[word]

    def encode(self, words: Sequence[str]) -> Encoded:
        """Windows of a post of at least one word; raises nothing, whatever the words hold."""
        pieces = [self.of_word(word) for word in words]
        bounds = windows([len(ids) for ids in pieces], self.room)
        if self.overflow == "truncate":
            bounds = bounds[:1]
        n_words = bounds[-1][1]
        ids, cells = [], []
        for index, (start, end) in enumerate(bounds):
            speaks_from = (start + bounds[index - 1][1]) // 2 if index else 0
            speaks_to = (bounds[index + 1][0] + end) // 2 if index + 1 < len(bounds) else n_words
            row, owner = [self.tokenizer.cls_token_id], [0 if index == 0 else NO_CELL]
            for word in range(start, end):
                row += pieces[word]
                owner += [word + 1 if speaks_from <= word < speaks_to else NO_CELL] * len(pieces[word])
            ids.append((*row, self.tokenizer.sep_token_id))
            cells.append((*owner, n_words + 1 if index + 1 == len(bounds) else NO_CELL))
        return Encoded(tuple(ids), tuple(cells), n_words)

    def collate(self, posts: Sequence[Encoded]) -> dict[str, Tensor]:
        """Tensors of a batch.

        `pieces` [W, P] int64 (pad id behind the real ones), `piece_mask` [W, P] bool, `pool` [W, T, P] float32 (the
        share of each piece in each cell's vector; rows of padding cells are zero), `window_post` [W] int64.
        """
        rows = [(index, row, owner) for index, post in enumerate(posts) for row, owner in _rows(post)]
        n_cells, n_pieces = max(post.n_words for post in posts) + 2, max(len(row) for _, row, _ in rows)
        pieces = torch.full((len(rows), n_pieces), int(self.tokenizer.pad_token_id or 0))
        mask = torch.zeros(len(rows), n_pieces, dtype=torch.bool)
        pool = torch.zeros(len(rows), n_cells, n_pieces)
        for window, (_, row, owner) in enumerate(rows):
            pieces[window, : len(row)] = torch.tensor(row)
            mask[window, : len(row)] = True
            at = [(cell, piece) for piece, cell in enumerate(owner) if cell != NO_CELL]
            if self.pooling == "first":
                at = [(cell, piece) for cell, piece in at if piece == 0 or owner[piece - 1] != cell]
            cell_index, piece_index = torch.tensor(at).reshape(-1, 2).unbind(1)
            pool[window, cell_index, piece_index] = 1.0
        pool /= pool.sum(-1, keepdim=True).clamp(min=1)
        window_post = torch.tensor([index for index, _, _ in rows])
        return {"pieces": pieces, "piece_mask": mask, "pool": pool, "window_post": window_post}


def _rows(post: Encoded) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return list(zip(post.windows, post.cells, strict=True))


def windows(n_pieces: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Word ranges `[start, end)` that together cover all words, each of at most `room` pieces (no word has more)."""
    bounds: list[tuple[int, int]] = []
    start = 0
    while True:
        end, used = start, 0
        while end < len(n_pieces) and used + n_pieces[end] <= room:
            used += n_pieces[end]
            end += 1
        bounds.append((start, end))
        if end == len(n_pieces):
            return bounds
        start, used = end, 0
        while (
            used + n_pieces[start - 1] <= room // CONTEXT_SHARE and used + n_pieces[start - 1] + n_pieces[end] <= room
        ):
            start -= 1
            used += n_pieces[start]


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
        use_onednn(model)
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
