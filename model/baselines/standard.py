"""Features of a pack at mean 0 and deviation 1, so that layers behind them see what differs between cells.

B posts, M objects, D the pack's width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standard(nn.Module):
    """Standardises by the mean and deviation of every real feature that training has shown so far, by dimension.

    The sums are part of the run's weights. Before the first step features pass as they are.
    """

    count: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("total", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(dim, dtype=torch.float64))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """features [B, M, D] with mask bool [B, M]: the same, standardised; anything at padding."""
        if self.training:
            real = features.detach().double() * mask[..., None]
            self.count += mask.sum()
            self.total += real.sum((0, 1))
            self.squares += real.square().sum((0, 1))
        seen = self.count.clamp(min=1)
        mean = self.total / seen
        spread = (self.squares / seen - mean.square()).clamp(min=0).sqrt()
        spread = torch.where(spread > 1e-6, spread, 1.0)  # a dimension that never varies, or nothing seen yet
        return (features - mean.to(features.dtype)) / spread.to(features.dtype)
