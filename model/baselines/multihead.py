"""Multi-head attention and the post-norm Transformer layer (Vaswani et al. 2017), queries apart from keys: for rivals.

Letters: B posts, Q query cells, K key cells, D width, H heads, C = D / H. Masks are True where something is real.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernels.linear import linear
from schema.errors import DataError


def apply(module: nn.Linear, cells: Tensor, relu: bool = False) -> Tensor:
    """A linear map over the last axis by our products, then ReLU if asked."""
    return linear(cells, module.weight, module.bias, relu)


class MultiHead(nn.Module):
    """softmax((W_q Q)^T (W_k K) / sqrt(C)) (W_v K)^T for each head, joined by W_o; no bias, as written."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise DataError("dim must be a multiple of heads", found=f"dim {dim}, heads {heads}")
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)  # W_k above W_v: one product
        self.output = nn.Linear(dim, dim, bias=False)

    def forward(self, queries: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor:
        """queries [B, Q, D], keys [B, K, D] (K may be 0), key_mask bool [B, K] -> [B, Q, D].

        A post without a real key gets zeros.
        """
        if not keys.shape[1]:
            return torch.zeros_like(queries)
        query = self._split(apply(self.query, queries))
        key, value = (self._split(part) for part in apply(self.key_value, keys).chunk(2, dim=-1))
        bias = torch.zeros(key_mask.shape, dtype=query.dtype, device=query.device)
        bias = bias.masked_fill_(~key_mask, torch.finfo(query.dtype).min / 2)[:, None, None]
        mixed = F.scaled_dot_product_attention(query, key, value, bias).transpose(1, 2).flatten(2)
        return apply(self.output, mixed * key_mask.any(1)[:, None, None])

    def _split(self, cells: Tensor) -> Tensor:
        return cells.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, H, cells, C]


class FeedForward(nn.Module):
    """Linear, ReLU, linear, cell by cell."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(in_dim, hidden_dim), nn.Linear(hidden_dim, out_dim)

    def forward(self, cells: Tensor) -> Tensor:
        """[..., in_dim] -> [..., out_dim]."""
        return apply(self.last, apply(self.first, cells, relu=True))


class TransformerLayer(nn.Module):
    """LN(Z + FFN(Z)) of Z = LN(Q + MultiHead(Q, K, K)); with keys = queries the plain self-attention layer."""

    def __init__(self, dim: int, heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHead(dim, heads)
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.ffn = FeedForward(dim, ffn_dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor:
        """As MultiHead.forward; padded queries come back finite, without meaning."""
        cells = self.norm1(queries + self.dropout(self.attention(queries, keys, key_mask)))
        return self.norm2(cells + self.dropout(self.ffn(cells)))
