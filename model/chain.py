"""Forward and backward sums over all tag paths of a linear chain, batched, in float64.

B posts, T words (padding behind the real ones), K tags. The backward sums are the forward ones of the turned-round
sequence with the transposed transitions, so one loop of T small products does both; the gradient of log Z is then read
off them (marginals), and no step is recorded for autograd.

The loop works on sums scaled to 1. What underflows there is a tag whose paths so far are e^-708 of the best ones', and
it can only catch up by its way onward: whatever the emissions are, the next step offers the same tags to all, so by no
more than the range of the transitions (or of the ends). Up to MAX_RANGE nats that leaves it below e^-400. Wider
transitions take a loop in logs, 2.5 times as slow on a CPU (measured: 0.5 ms for 16 posts of 24 words and 9 tags).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_RANGE = 300.0  # nats between the transitions, starts or ends of one chain; see above


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

    @property
    def range(self) -> Tensor:
        """The widest range of transitions, starts or ends, []."""
        edges = (self.start, self.step, self.end)
        return torch.stack([edge.max() - edge.min() for edge in edges]).max()

    def wide(self, trains: bool = False) -> bool:
        """Whether it needs the loop in logs; False on a GPU that trains, which would have to wait for the answer."""
        if trains and _waits(self.emissions):
            return False
        return bool(self.range > MAX_RANGE)


class Sums(NamedTuple):
    """Logs of sums over paths; padding holds values without meaning."""

    forward: Tensor  # [B, T, K]: all ways to reach tag k at t, emission t included
    backward: Tensor | None  # [B, T, K]: all ways from tag k at t to the end, emission t included
    log_z: Tensor  # [B]


def sums(chain: Chain, both: bool, wide: bool) -> Sums:
    """`both`: the backward sums too; `wide`: by the loop in logs."""
    emissions, turned = chain.emissions, chain.turned
    sides = [emissions, emissions.gather(1, turned)] if both else [emissions]
    steps, firsts = [chain.step, chain.step.t()], [chain.start, chain.end]
    with torch.autocast(emissions.device.type, enabled=False):
        sweep = _sweep_logs if wide else _sweep
        logs = sweep(*(torch.stack(part[: len(sides)]) for part in (sides, firsts, steps)))  # [1 or 2, B, T, K]
    last = logs[0].gather(1, (chain.lengths - 1)[:, None, None].expand(-1, 1, logs.shape[3]))[:, 0]
    return Sums(logs[0], logs[1].gather(1, turned) if both else None, torch.logsumexp(last + chain.end, dim=1))


def _sweep_logs(emissions: Tensor, first: Tensor, step: Tensor) -> Tensor:
    """Logs of the forward sums of S batches at once: emissions [S, B, T, K], first [S, K], step [S, K, K]."""
    columns = step.transpose(1, 2)[:, None]  # [S, 1, K, K], from the last index
    states = [first[:, None] + emissions[:, :, 0]]
    for word in emissions.unbind(dim=2)[1:]:
        states.append(torch.logsumexp(states[-1][:, :, None] + columns, dim=3) + word)
    return torch.stack(states, dim=2)


def _sweep(emissions: Tensor, first: Tensor, step: Tensor) -> Tensor:
    """As `_sweep_logs`, by products of sums that are scaled to 1 in each step."""
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
    return states.permute(1, 2, 0, 3).log() + scale.cumsum(dim=2)[..., None]


class LogZ(torch.autograd.Function):
    """log Z of a chain, [B], by its five parts; on a GPU that trains, nan where its range is above MAX_RANGE."""

    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        chain = Chain(*parts)
        trains = any(ctx.needs_input_grad)
        ctx.wide = wide = chain.wide(trains)
        found = sums(chain, trains, wide)
        ctx.save_for_backward(*chain, *found)
        return found.log_z if wide else torch.where(chain.range > MAX_RANGE, torch.nan, found.log_z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        chain, (forward, backward, log_z) = Chain(*ctx.saved_tensors[:5]), ctx.saved_tensors[5:]
        order = torch.arange(forward.shape[1], device=grad.device)
        real = order < chain.lengths[:, None]  # [B, T]
        tags = (forward + backward - chain.emissions - log_z[:, None, None]).exp()  # P(tag k at t)
        tags = tags.masked_fill(~real[..., None], 0.0) * grad[:, None, None]
        onward = (backward[:, 1:] - log_z[:, None, None]).masked_fill(~real[:, 1:, None], -torch.inf)
        pairs = (_pairs_wide if ctx.wide else _pairs)(forward[:, :-1], onward, chain.step, grad)
        last = tags.gather(1, (chain.lengths - 1)[:, None, None].expand(-1, 1, tags.shape[2]))
        return tags, None, tags[:, 0].sum(0), pairs, last[:, 0].sum(0)


def _waits(x: Tensor) -> bool:
    """Whether to look at values means to wait for a device."""
    return x.device.type != "cpu"


def _pairs(forward: Tensor, onward: Tensor, step: Tensor, grad: Tensor) -> Tensor:
    """P(tag i at t, tag j at t + 1) summed over t and, weighted by grad [B], over posts: [K, K].

    forward and onward [B, T-1, K] are logs, onward without log Z; both are scaled so that no entry overflows.
    """
    rise, peak = forward.amax(dim=2, keepdim=True), step.max()
    left = (forward - rise).exp() * grad[:, None, None]
    return left.flatten(0, 1).t() @ (onward + rise + peak).exp().flatten(0, 1) * (step - peak).exp()


def _pairs_wide(forward: Tensor, onward: Tensor, step: Tensor, grad: Tensor) -> Tensor:
    """The same pair by pair, where a scaled factor could leave the range of float64."""
    total = torch.zeros_like(step)
    for before, after in zip(forward.unbind(1), onward.unbind(1), strict=True):
        total += torch.einsum("bij,b->ij", (before[:, :, None] + step + after[:, None]).exp(), grad)
    return total
