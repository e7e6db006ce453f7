"""Linear-chain CRF (Eq. 13-14): pytorch-crf's parameters and results; fast normaliser, decoder and marginals.

B posts, T words (padding behind the real ones), K tags: "O" first, then `B-t, I-t` per type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torchcrf
from torch import Tensor

from model.chain import Chain, LogZ, sums
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
    Results are float32 (float64 for float64 emissions), under autocast too; sums and differences are float64, so that
    large scores do not swallow small ones. Any scores are exact, but for one case: transitions more than 300 nats apart
    in training on a GPU, where looking would stall, give nan; the learnt ones of a run that converges are of order 1.
    """

    def __init__(self, num_tags: int) -> None:
        super().__init__(num_tags, batch_first=True)

    def nll(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Negative log-likelihood of `tags` int64 [B, T] (anything at padding): [B], float32 or float64."""
        self._check(emissions, mask)
        with torch.autocast(emissions.device.type, enabled=False):
            found = self._log_z(emissions, mask) - self._score(emissions.double(), tags, mask)
            return found.to(_full(emissions).dtype)

    def log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Log of the sum over all tag paths (Eq. 13's denominator): [B]."""
        self._check(emissions, mask)
        with torch.autocast(emissions.device.type, enabled=False):
            return self._log_z(emissions, mask).to(_full(emissions).dtype)

    def _check(self, emissions: Tensor, mask: Tensor) -> None:
        if emissions.dim() != 3 or emissions.shape[2] != self.num_tags or emissions.shape[:2] != mask.shape:
            found = f"emissions {tuple(emissions.shape)}, mask {tuple(mask.shape)}"
            raise DataError(f"a CRF over {self.num_tags} tags needs emissions [B, T, K] and a mask [B, T]", found=found)

    def _score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        tags = tags.masked_fill(~mask, 0)
        unary = emissions.gather(2, tags[..., None])[..., 0]  # [B, T]
        pairs = self.transitions[tags[:, :-1], tags[:, 1:]]  # [B, T-1]
        last = tags.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]
        total = unary.masked_fill(~mask, 0.0).sum(1) + pairs.masked_fill(~mask[:, 1:], 0.0).sum(1)
        return total + self.start_transitions[tags[:, 0]] + self.end_transitions[last]

    def _chain(self, emissions: Tensor, mask: Tensor) -> Chain:
        real = torch.where(mask[..., None], emissions, 0.0).double()
        edges = (self.start_transitions, self.transitions, self.end_transitions)
        return Chain(real, mask.sum(1), *(edge.double() for edge in edges))

    def _log_z(self, emissions: Tensor, mask: Tensor) -> Tensor:
        return LogZ.apply(*self._chain(emissions, mask))

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
        `inside` int64 [N] the tags `B-t` and `I-t`: P(B-t at start, I-t up to end, then not I-t | S, O). Raises
        DataError for a span that its post does not have.
        """
        self._check(emissions, mask)
        chain = self._chain(emissions, mask)
        first, stop = spans.unbind(1)
        _check_spans(posts, first, stop, chain.lengths)
        forward, backward, log_z = sums(chain, both=True, wide=chain.wide())
        assert backward is not None
        n_inside = stop - first - 1
        up_to = torch.nn.functional.pad(chain.emissions.cumsum(1), (0, 0, 1, 0))  # [B, T + 1, K]
        middle = up_to[posts, stop, inside] - up_to[posts, first + 1, inside]
        more = chain.step[begin, inside] + (n_inside - 1) * chain.step[inside, inside]
        last = torch.where(n_inside > 0, inside, begin)
        onward = chain.step[last] + backward[posts, stop.clamp(max=emissions.shape[1] - 1)]  # [N, K]
        onward = onward.scatter(1, inside[:, None], -torch.inf).logsumexp(dim=1)
        tail = torch.where(stop < chain.lengths[posts], onward, chain.end[last])
        return forward[posts, first, begin] + middle + torch.where(n_inside > 0, more, 0.0) + tail - log_z[posts]


def _full(emissions: Tensor) -> Tensor:
    return emissions if emissions.dtype == torch.float64 else emissions.float()


def _check_spans(posts: Tensor, start: Tensor, stop: Tensor, lengths: Tensor) -> None:
    """Values are looked at: whoever asks for marginals takes them to the CPU next."""
    known = (posts >= 0) & (posts < len(lengths))
    inside = known & (start >= 0) & (start < stop) & (stop <= lengths[posts.clamp(0, len(lengths) - 1)])
    if not bool(inside.all()):
        at = int((~inside).nonzero()[0])
        n_words = f"of {int(lengths[posts[at]])} words" if known[at] else f"of {len(lengths)} posts"
        found = f"words [{int(start[at])}, {int(stop[at])}) of post {int(posts[at])} {n_words}"
        raise DataError("a span lies outside its post", found=found)
