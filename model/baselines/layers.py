"""Layers that several baselines share: BiLSTM, additive attention, the Transformer layer, standardized features.

Attention is written out: torch's returns nan for a post without a real key, and does not use `kernels`.

Letters: B posts or sequences, N steps, Q query cells, K key cells, M objects, D width, H hidden units per direction or
heads, C = D / H. Masks are bool, True = real; padding is behind the real steps.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernels import Linear, linear
from schema.errors import DataError


class BiLSTM(nn.Module):
    """One layer in each direction; weights by Glorot's uniform, biases 0 except the forget gate's, which is 1.

    The backward direction is an LSTM over the reversed sequence: padding stays behind the real steps, so nothing is
    packed, a GPU never waits for lengths, and a CPU uses fused kernels (twice the speed of packed sequences, measured).
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.dim = 2 * hidden
        self.forward_lstm, self.backward_lstm = _lstm(dim, hidden), _lstm(dim, hidden)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """States [B, N, 2H] of inputs [B, N, D] with int64 lengths [B] of at least 1; padding is arbitrary."""
        ahead, behind, reversal = self._run(inputs, lengths)
        return torch.cat([ahead, _gather(behind, reversal)], dim=2)

    def last(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Both directions' states after their last step, [B, 2H]."""
        ahead, behind, _ = self._run(inputs, lengths)
        ends = (lengths - 1)[:, None]
        return torch.cat([_gather(ahead, ends)[:, 0], _gather(behind, ends)[:, 0]], dim=1)

    def _run(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        order = torch.arange(inputs.shape[1], device=inputs.device)
        reversal = (lengths[:, None] - 1 - order).clamp(min=0)  # [B, N]
        return self.forward_lstm(inputs)[0], self.backward_lstm(_gather(inputs, reversal))[0], reversal


def _gather(values: Tensor, steps: Tensor) -> Tensor:
    return values.gather(1, steps[..., None].expand(-1, -1, values.shape[2]))


def _lstm(dim: int, hidden: int) -> nn.LSTM:
    lstm = nn.LSTM(dim, hidden, batch_first=True)
    for name, parameter in lstm.named_parameters():
        if "weight" in name:
            for gate in parameter.chunk(4):
                nn.init.xavier_uniform_(gate)
        else:
            nn.init.zeros_(parameter)
    with torch.no_grad():  # torch's order of gates: input, forget, cell, output
        dict(lstm.named_parameters())["bias_ih_l0"][hidden : 2 * hidden] = 1.0
    return lstm


class AdditiveAttention(nn.Module):
    """softmax over keys of w . tanh(W_k k (+) (W_q q + b)), where (+) adds the query's vector to that of each key.

    With a concatenation instead of the sum, or a tanh on each part, a score would be a sum of one term of the query and
    one of the key; the softmax cancels the first, and every query would attend alike.
    """

    def __init__(self, query_dim: int, key_dim: int, units: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim, units)
        self.key = nn.Linear(key_dim, units, bias=False)
        self.score = nn.Linear(units, 1, bias=False)  # the softmax cancels a bias

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Weights [B, Q, K] of queries [B, Q, D] over keys [B, K, D] with mask [B, K]; zeros without a real key."""
        pairs = (self.query(queries)[:, :, None] + self.key(keys)[:, None]).tanh()  # [B, Q, K, units]
        scores = self.score(pairs)[..., 0].masked_fill(~mask[:, None], torch.finfo(pairs.dtype).min)
        return scores.softmax(dim=2) * mask[:, None]


class MultiHead(nn.Module):
    """softmax((W_q Q)^T (W_k K) / sqrt(C)) (W_v K)^T for each head, joined by W_o; no bias (Vaswani et al. 2017)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise DataError("dim must be a multiple of heads", found=f"dim {dim}, heads {heads}")
        self.heads = heads
        self.query = Linear(dim, dim, bias=False)
        self.key_value = Linear(dim, 2 * dim, bias=False)  # W_k above W_v: one product
        self.output = Linear(dim, dim, bias=False)

    def forward(self, queries: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor:
        """queries [B, Q, D], keys [B, K, D] (K may be 0), key_mask [B, K] -> [B, Q, D]; zeros without a real key."""
        if not keys.shape[1]:
            return torch.zeros_like(queries)
        parts = (self.query(queries), *self.key_value(keys).chunk(2, dim=-1))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # [B, H, cells, C]
        bias = torch.zeros(key_mask.shape, dtype=query.dtype, device=query.device)
        bias = bias.masked_fill_(~key_mask, torch.finfo(query.dtype).min / 2)[:, None, None]
        mixed = F.scaled_dot_product_attention(query, key, value, bias).transpose(1, 2).flatten(2)
        return self.output(mixed * key_mask.any(1)[:, None, None])


class FeedForward(nn.Module):
    """Linear, ReLU, linear, cell by cell."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.first, self.last = Linear(in_dim, hidden_dim), Linear(hidden_dim, out_dim)

    def forward(self, cells: Tensor) -> Tensor:
        """[..., in_dim] -> [..., out_dim]."""
        return self.last(linear(cells, self.first.weight, self.first.bias, relu=True))


class TransformerLayer(nn.Module):
    """Post-norm: LN(Z + FFN(Z)) of Z = LN(Q + MultiHead(Q, K, K)); self-attention if keys = queries."""

    def __init__(self, dim: int, heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHead(dim, heads)
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.ffn = FeedForward(dim, ffn_dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor:
        """As MultiHead.forward; the values of padded queries are finite but arbitrary."""
        cells = self.norm1(queries + self.dropout(self.attention(queries, keys, key_mask)))
        return self.norm2(cells + self.dropout(self.ffn(cells)))


class Standardize(nn.Module):
    """Features at mean 0 and deviation 1 over all training posts, per dimension; unchanged before `learn`."""

    count: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        for name, shape in (("count", ()), ("total", (dim,)), ("squares", (dim,))):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def learn(self, posts: Iterable[np.ndarray]) -> None:
        """Replace the sums by those of the posts' features [M, D]; the same in every process that trains."""
        for sums in (self.count, self.total, self.squares):
            sums.zero_()
        for features in posts:
            full = torch.from_numpy(features.astype(np.float64)).to(self.total.device)
            self.count += len(full)
            self.total += full.sum(0)
            self.squares += full.square().sum(0)

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, M, D], standardized; padding is arbitrary."""
        count = self.count.clamp(min=1)
        mean = self.total / count
        deviation = (self.squares / count - mean.square()).clamp(min=0).sqrt()
        deviation = torch.where(deviation > 1e-6, deviation, 1.0)  # a constant dimension, or `learn` was not called
        return (features - mean.to(features.dtype)) / deviation.to(features.dtype)
