"""Forward and backward sums over all tag paths of a linear chain, batched, in float64 and scaled.

B posts, T words (padding behind the real ones), K tags. The backward sums are the forward ones of the turned-round
sequence with the transposed transitions, so one loop of T small products does both; the gradient of log Z is then read
off them (marginals), and no step is recorded for autograd.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_SPREAD = 300.0  # nats within one step; with less, no scaled float64 sum that matters underflows


class Chain(NamedTuple):
    """A batch of chains, all float64."""

    emissions: Tensor  # [B, T, K], zeros at padding
    lengths: Tensor  # int64 [B], at least 1
    start: Tensor  # [K]
    step: Tensor  # [K, K], from row to column
    end: Tensor  # [K]

    @property
    def turned(self) -> Tensor:
        """int64 [B, T, K]: gathers the real words in reverse order, and again in order."""
        order = torch.arange(self.emissions.shape[1], device=self.lengths.device)
        return (self.lengths[:, None] - 1 - order).clamp(min=0)[..., None].expand_as(self.emissions)

    def spread(self) -> Tensor:
        """Largest difference of scores within one step, [] (transitions and emissions together)."""
        edges = (self.start, self.step.flatten(), self.end)
        ranges = [self.emissions.amax(2) - self.emissions.amin(2), *(edge.max() - edge.min() for edge in edges)]
        return ranges[0].max() + torch.stack(ranges[1:]).max()


class Sums(NamedTuple):
    """Logs of sums over paths; padding holds values without meaning."""

    forward: Tensor  # [B, T, K]: all ways to reach tag k at t, emission t included
    backward: Tensor | None  # [B, T, K]: all ways from tag k at t to the end, emission t included
    log_z: Tensor  # [B]


def sums(chain: Chain, both: bool) -> Sums:
    """`both`: the backward sums too."""
    emissions, turned = chain.emissions, chain.turned
    sides = [emissions, emissions.gather(1, turned)] if both else [emissions]
    steps, firsts = [chain.step, chain.step.t()], [chain.start, chain.end]
    with torch.autocast(emissions.device.type, enabled=False):
        states, scale = _sweep(*(torch.stack(part[: len(sides)]) for part in (sides, firsts, steps)))
    logs = states.log() + scale[..., None]  # [1 or 2, B, T, K]
    last = logs[0].gather(1, (chain.lengths - 1)[:, None, None].expand(-1, 1, logs.shape[3]))[:, 0]
    return Sums(logs[0], logs[1].gather(1, turned) if both else None, torch.logsumexp(last + chain.end, dim=1))


def _sweep(emissions: Tensor, first: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Forward sums of S batches at once: emissions [S, B, T, K], first [S, K], step [S, K, K].

    Returns the sums [S, B, T, K], each row scaled to 1, and the logs of what was divided away, [S, B, T].
    """
    top = emissions.amax(dim=3)  # [S, B, T]
    peak = step.amax(dim=(1, 2))
    words = (emissions - top[..., None]).exp().permute(2, 0, 1, 3).contiguous()  # [T, S, B, K]
    matrix = (step - peak[:, None, None]).exp()
    states, totals = torch.empty_like(words), torch.empty_like(words[..., :1])
    before = (first - first.amax(dim=1, keepdim=True)).exp()[:, None]
    for t, (word, state, total) in enumerate(zip(words.unbind(), states.unbind(), totals.unbind(), strict=True)):
        if t:
            torch.bmm(before, matrix, out=state)
            state *= word
        else:
            torch.mul(before, word, out=state)
        torch.sum(state, dim=2, keepdim=True, out=total)
        state /= total
        before = state
    scale = top + totals[..., 0].permute(1, 2, 0).log() + peak[:, None, None]
    scale[:, :, 0] += first.amax(dim=1)[:, None] - peak[:, None]
    return states.permute(1, 2, 0, 3), scale.cumsum(dim=2)


class LogZ(torch.autograd.Function):
    """log Z of a chain, [B], by its five parts; nan where `Chain.spread` is above MAX_SPREAD."""

    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        chain = Chain(*parts)
        found = sums(chain, both=any(ctx.needs_input_grad))
        assert found.backward is not None or not any(ctx.needs_input_grad)
        ctx.save_for_backward(*chain, *found)
        return torch.where(chain.spread() > MAX_SPREAD, torch.nan, found.log_z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        chain, (forward, backward, log_z) = Chain(*ctx.saved_tensors[:5]), ctx.saved_tensors[5:]
        order = torch.arange(forward.shape[1], device=grad.device)
        real = order < chain.lengths[:, None]  # [B, T]
        tags = (forward + backward - chain.emissions - log_z[:, None, None]).exp()  # P(tag k at t)
        tags = tags.masked_fill(~real[..., None], 0.0) * grad[:, None, None]
        # P(tag i at t, tag j at t + 1), summed; both factors are scaled so that no entry overflows
        rise, peak = forward[:, :-1].amax(dim=2, keepdim=True), chain.step.max()
        left = (forward[:, :-1] - rise).exp() * grad[:, None, None]
        right = (backward[:, 1:] + rise + peak - log_z[:, None, None]).masked_fill(~real[:, 1:, None], -torch.inf)
        pairs = left.flatten(0, 1).t() @ right.exp().flatten(0, 1) * (chain.step - peak).exp()
        last = tags.gather(1, (chain.lengths - 1)[:, None, None].expand(-1, 1, tags.shape[2]))
        return tags, None, tags[:, 0].sum(0), pairs, last[:, 0].sum(0)
