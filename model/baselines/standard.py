"""Features of a pack at mean 0 and deviation 1, so that layers behind them see what differs between cells.

B posts, M objects, D the pack's width.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn


class Standard(nn.Module):
    """Standardises by the mean and deviation of all features of the training posts, dimension by dimension.

    The sums are part of the run's weights. Before `learn` features pass as they are.
    """

    count: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("total", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(dim, dtype=torch.float64))

    def learn(self, posts: Iterable[np.ndarray]) -> None:
        """Replace the sums by those of the posts' features, each [M, D]: the same in every process that trains."""
        count, total, squares = 0, np.zeros(len(self.total)), np.zeros(len(self.total))
        for features in posts:
            full = features.astype(np.float64)
            count += len(full)
            total += full.sum(0)
            squares += np.square(full).sum(0)
        self.count.fill_(count)
        self.total.copy_(torch.from_numpy(total))
        self.squares.copy_(torch.from_numpy(squares))

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, M, D], standardised; anything at padding."""
        seen = self.count.clamp(min=1)
        mean = self.total / seen
        spread = (self.squares / seen - mean.square()).clamp(min=0).sqrt()
        spread = torch.where(spread > 1e-6, spread, 1.0)  # a dimension that never varies, or nothing seen yet
        return (features - mean.to(features.dtype)) / spread.to(features.dtype)
