"""Linear-chain CRF (Eq. 13-14): pytorch-crf's parameters and results; fast normaliser, decoder and marginals.

B posts, T words (padding behind the real ones), K tags: "O" first, then `B-t, I-t` per type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torchcrf
from torch import Tensor

from schema.errors import DataError


@dataclass(frozen=True)
class Transitions:
    """Which tags may open a sequence, and which tag may follow which; used in decoding only."""

    start: Tensor  # bool [K]
    step: Tensor  # bool [K, K]: from row to column

    @classmethod
    def iob2(cls, tags: Sequence[str]) -> Transitions:
        """IOB2: `I-t` follows `B-t` or `I-t` only, and opens no sequence."""
        fits = [[not b.startswith("I-") or (a[:2] in ("B-", "I-") and a[2:] == b[2:]) for b in tags] for a in tags]
        return cls(torch.tensor([not tag.startswith("I-") for tag in tags]), torch.tensor(fits))

    def to(self, device: torch.device) -> Transitions:
        return Transitions(self.start.to(device), self.step.to(device))


class CRF(torchcrf.CRF):
    """CRF over emissions [B, T, K]; masks are bool [B, T], True = real, real words first, at least one a post.

    Parameters are pytorch-crf's: `start_transitions` [K], `end_transitions` [K], `transitions` [K, K] (from, to).
    Everything is computed in float32 at least, under autocast too.
    """

    def __init__(self, num_tags: int) -> None:
        super().__init__(num_tags, batch_first=True)

    def nll(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Negative log-likelihood of `tags` int64 [B, T] (anything at padding): [B], float32 or float64."""
        self._check(emissions, mask)
        with torch.autocast(emissions.device.type, enabled=False):
            emissions = _full(emissions)
            return self._log_z(emissions, mask) - self._score(emissions, tags, mask)

    def log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Log of the sum over all tag paths (Eq. 13's denominator): [B]."""
        self._check(emissions, mask)
        with torch.autocast(emissions.device.type, enabled=False):
            return self._log_z(_full(emissions), mask)

    def _check(self, emissions: Tensor, mask: Tensor) -> None:
        if emissions.dim() != 3 or emissions.shape[2] != self.num_tags or emissions.shape[:2] != mask.shape:
            found = f"emissions {tuple(emissions.shape)}, mask {tuple(mask.shape)}"
            raise DataError(f"a CRF over {self.num_tags} tags needs emissions [B, T, K] and a mask [B, T]", found=found)

    def _score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        tags = tags.masked_fill(~mask, 0)
        unary = emissions.gather(2, tags[..., None])[..., 0]  # [B, T]
        pairs = self.transitions[tags[:, :-1], tags[:, 1:]]  # [B, T-1]
        last = tags.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]
        total = (unary * mask).sum(1) + (pairs * mask[:, 1:]).sum(1)
        return total + self.start_transitions[tags[:, 0]] + self.end_transitions[last]

    def _log_z(self, emissions: Tensor, mask: Tensor) -> Tensor:
        first = self.start_transitions + emissions[:, 0]  # [B, K]
        if emissions.shape[1] > 1:
            first = torch.logsumexp(first[:, :, None] + self._chain(emissions, mask), dim=1)
        return torch.logsumexp(first + self.end_transitions, dim=1)

    def _chain(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Log of the product of all step matrices, [B, K, K]: a tree of log2(T) products instead of T - 1 steps."""
        steps = self.transitions + emissions[:, 1:, None, :]  # [B, T-1, K, K]
        steps = torch.where(mask[:, 1:, None, None], steps, _log_identity(steps))
        while steps.shape[1] > 1:
            even = steps.shape[1] // 2 * 2
            left, right = steps[:, 0:even:2], steps[:, 1:even:2]
            product = torch.logsumexp(left[..., :, :, None] + right[..., None, :, :], dim=-2)
            steps = product if even == steps.shape[1] else torch.cat([product, steps[:, even:]], dim=1)
        return steps[:, 0]

    @torch.no_grad()
    def decode(
        self, emissions: Tensor, mask: Tensor | None = None, allowed: Transitions | None = None
    ) -> list[list[int]]:
        """The best tag path of each post (Viterbi), as long as the post; `allowed` forbids steps."""
        mask = mask if mask is not None else torch.ones(emissions.shape[:2], dtype=torch.bool, device=emissions.device)
        self._check(emissions, mask)
        emissions = _full(emissions)
        start, step = self.start_transitions, self.transitions
        if allowed is not None:
            allowed = allowed.to(emissions.device)
            start = start.masked_fill(~allowed.start, -torch.inf)
            step = step.masked_fill(~allowed.step, -torch.inf)
        score, pointers = start + emissions[:, 0], []
        same = torch.arange(self.num_tags, device=emissions.device)
        for t in range(1, emissions.shape[1]):
            best, origin = (score[:, :, None] + step).max(dim=1)
            real = mask[:, t, None]
            score = torch.where(real, best + emissions[:, t], score)
            pointers.append(torch.where(real, origin, same))
        path = [(score + self.end_transitions).argmax(dim=1, keepdim=True)]
        for origin in reversed(pointers):
            path.append(origin.gather(1, path[-1]))
        paths = torch.cat(path[::-1], dim=1).tolist()
        return [tags[:n] for tags, n in zip(paths, mask.sum(1).tolist(), strict=True)]

    @torch.no_grad()
    def span_log_prob(
        self, emissions: Tensor, mask: Tensor, posts: Tensor, spans: Tensor, begin: Tensor, inside: Tensor
    ) -> Tensor:
        """Log marginal probability that exactly these words are an entity: float64 [N].

        `posts` int64 [N] names a row of the batch, `spans` int64 [N, 2] words `[start, end)` of it, `begin` and
        `inside` int64 [N] the tags `B-t` and `I-t`: P(B-t at start, I-t up to end, then not I-t | S, O).
        """
        self._check(emissions, mask)
        emissions = emissions.double()
        start, step, end = (p.double() for p in (self.start_transitions, self.transitions, self.end_transitions))
        alpha, beta = _both_ways(emissions, mask, start, step, end)  # [B, T, K] each
        log_z = torch.logsumexp(alpha[:, 0] + beta[:, 0], dim=1)
        first, stop = spans.unbind(1)
        lengths = mask.sum(1)[posts]
        n_inside = stop - first - 1
        at = torch.nn.functional.pad(emissions.cumsum(1), (0, 0, 1, 0))  # [B, T + 1, K]
        middle = at[posts, stop, inside] - at[posts, first + 1, inside]
        middle += torch.where(n_inside > 0, step[begin, inside] + (n_inside - 1) * step[inside, inside], 0.0)
        last = torch.where(n_inside > 0, inside, begin)
        after = stop.clamp(max=emissions.shape[1] - 1)
        onward = step[last] + emissions[posts, after] + beta[posts, after]  # [N, K]
        onward = onward.scatter(1, inside[:, None], -torch.inf).logsumexp(dim=1)
        tail = torch.where(stop < lengths, onward, end[last])
        return alpha[posts, first, begin] + middle + tail - log_z[posts]


def _full(emissions: Tensor) -> Tensor:
    return emissions if emissions.dtype == torch.float64 else emissions.float()


def _log_identity(like: Tensor) -> Tensor:
    """Log of the identity matrix [K, K]; finite, so that no gradient meets inf - inf."""
    n = like.shape[-1]
    return torch.full((n, n), -1e30, dtype=like.dtype, device=like.device).fill_diagonal_(0.0)


def _both_ways(emissions: Tensor, mask: Tensor, start: Tensor, step: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Log forward scores (word t included) and backward scores (word t excluded), each [B, T, K]."""
    n = emissions.shape[1]
    alpha, beta = [start + emissions[:, 0]], [end.expand_as(emissions[:, 0])]
    for t in range(1, n):
        moved = torch.logsumexp(alpha[-1][:, :, None] + step, dim=1) + emissions[:, t]
        alpha.append(torch.where(mask[:, t, None], moved, alpha[-1]))
    for t in range(n - 1, 0, -1):
        moved = torch.logsumexp(step + (emissions[:, t] + beta[-1])[:, None, :], dim=2)
        beta.append(torch.where(mask[:, t, None], moved, beta[-1]))
    return torch.stack(alpha, dim=1), torch.stack(beta[::-1], dim=1)
