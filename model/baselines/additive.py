"""Additive attention: a small network scores each pair of query and key, which dot products cannot replace.

B posts, Q queries, K keys, D widths of each, A units of the network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AdditiveAttention(nn.Module):
    """softmax over keys of w . tanh(W_k k (+) (W_q q + b)), where (+) adds the query's vector to that of each key.

    A concatenation in place of the sum, or a tanh on each part before it, would make a score a sum of one term of the
    query and one of the key; the softmax takes the first away, and every query would attend alike.
    """

    def __init__(self, query_dim: int, key_dim: int, units: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim, units)
        self.key = nn.Linear(key_dim, units, bias=False)
        self.score = nn.Linear(units, 1, bias=False)  # a bias here would leave the softmax as it is

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Shares [B, Q, K] of each key, for queries [B, Q, D], keys [B, K, D] and mask bool [B, K] (True = real).

        A row sums to 1, or is all zeros where the post has no real key.
        """
        pairs = (self.query(queries)[:, :, None] + self.key(keys)[:, None]).tanh()  # [B, Q, K, A]
        scores = self.score(pairs)[..., 0].masked_fill(~mask[:, None], torch.finfo(pairs.dtype).min)
        return scores.softmax(dim=2) * mask[:, None]
