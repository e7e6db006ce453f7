"""Words to word pieces, word by word; posts with more pieces than the encoder takes become overlapping windows.

Letters: T text cells (words + 2), W encoder windows, P pieces of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from schema.errors import WeightsError

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
