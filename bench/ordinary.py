"""Two baselines of `model.interaction` with the same parameters and results, written from their description.

`Ordinary`: the direct implementation of Eq. 3-12. Four sinusoids are looked up for every pair of cells and
concatenated, W_r acts on that [B, L, L, 4D] tensor, W_kR on its [B, L, L, D] result in every layer. `UniqueTuples`:
FLAT's trick (Li et al., 2020): W_r acts on the distinct 4-tuples of distances of the batch only, and R is gathered from
there. `PairGate`: the gate of `model.baselines.umgf` as its public code computes it.

B posts, L = T + M cells, H heads, D width, C = D / H. Both use `kernels.linear`, so any comparison can give all
sides the same matrix library.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from kernels import linear_2d
from model.baselines.umgf import Gate
from model.interaction import Attention, FlatInteraction, Layer, distances


class Ordinary(FlatInteraction):
    """Materializes the position tensor. Always with position terms; no dropout."""

    def forward(
        self, text: Tensor, text_mask: Tensor, objects: Tensor, spans: Tensor, object_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        n_text = text.shape[1]
        cells, mask = torch.cat([text, objects], dim=1), torch.cat([text_mask, object_mask], dim=1)
        places = torch.arange(n_text, device=spans.device)[:, None].expand(len(text), n_text, 2)
        ends = torch.cat([places, spans.masked_fill(~object_mask[..., None], 0)], dim=1)  # head, tail [B, L, 2]
        relative = self.pairs(torch.stack(distances(ends, ends), dim=-1) + n_text - 1, n_text)
        for layer in cast(list[Layer], list(self.layers)):
            cells = layer.norm1(cells + self.attend(layer.attention, cells, relative, mask))
            first, _, last = cast(list[nn.Linear], list(layer.ffn))
            cells = layer.norm2(cells + rows_of(last, rows_of(first, cells).relu()))
        return cells[:, :n_text], cells[:, n_text:]

    def forward_text(
        self, text: Tensor, text_mask: Tensor, objects: Tensor, spans: Tensor, object_mask: Tensor
    ) -> Tensor:
        return self(text, text_mask, objects, spans, object_mask)[0]

    def pairs(self, index: Tensor, n_text: int) -> Tensor:
        """Eq. 9 for distances + T - 1, int64 [B, L, L, 4]: R [B, L, L, D]."""
        assert self.position is not None
        table = self.sinusoids(n_text, self.position.weight.dtype, index.device)
        return rows_of(self.position, table[index].flatten(3)).relu()

    def attend(self, attention: Attention, cells: Tensor, relative: Tensor, mask: Tensor) -> Tensor:
        """Eq. 10-12."""
        heads = attention.heads
        query, key, value = (
            rows_of(module, cells).unflatten(-1, (heads, -1))  # [B, L, H, C]
            for module in (attention.query, attention.key_content, attention.value)
        )
        position_key = rows_of(attention.key_position, relative).unflatten(-1, (heads, -1))  # [B, L, L, H, C]
        content = torch.einsum("bihc,bjhc->bhij", query + attention.content_bias, key)
        position = torch.einsum("bihc,bijhc->bhij", query + attention.position_bias, position_key)
        scores = ((content + position) * attention.scale).masked_fill(~mask[:, None, None], -torch.inf)
        mixed = torch.einsum("bhij,bjhc->bihc", scores.softmax(-1), value)
        return rows_of(attention.output, mixed.flatten(2))


class UniqueTuples(Ordinary):
    """As Ordinary, but W_r sees every 4-tuple of distances once."""

    def pairs(self, index: Tensor, n_text: int) -> Tensor:
        assert self.position is not None
        table = self.sinusoids(n_text, self.position.weight.dtype, index.device)
        tuples, place = torch.unique(index.flatten(0, 2), dim=0, return_inverse=True)
        return rows_of(self.position, table[tuples].flatten(1)).relu()[place].view(*index.shape[:3], -1)


class PairGate(Gate):
    """One map of each pair's joined vectors."""

    def forward(self, own: Tensor, others: Tensor, edges: Tensor) -> Tensor:
        shape = (len(own), own.shape[1], others.shape[1], own.shape[2])
        pairs = torch.cat([own[:, :, None].expand(shape), others[:, None].expand(shape)], dim=-1)
        both = torch.cat([self.own.weight, self.other.weight], dim=1)
        alpha = torch.sigmoid(linear_2d(pairs.flatten(0, 2), both).view(shape))
        return own + (alpha * edges[..., None] * others[:, None]).sum(2)


def rows_of(module: nn.Linear, cells: Tensor) -> Tensor:
    """A linear map over the last axis."""
    return linear_2d(cells.reshape(-1, cells.shape[-1]), module.weight, module.bias).view(*cells.shape[:-1], -1)
