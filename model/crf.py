"""A linear-chain CRF with pytorch-crf's parameters, and a partition function, decoder and marginals of its own.

The partition function and the marginals come from the forward and backward sums over all tag paths, in float64. The
backward sums are the forward sums of the reversed sequence with transposed transitions, so one loop of T small products
computes both; the gradient of log Z is read off them, and autograd records no step.

The loop works on sums scaled to 1. A value that underflows there is a tag whose paths so far are e^-708 of the best
tag's, and it can catch up by the range of the transitions (or of the ends) at most, since all tags get the same next
emissions. Up to a range of MAX_RANGE nats that leaves it below e^-400. Results of wider transitions are nan; those of a
run that converges are of order 1.

Letters: B posts, T words (padding behind the real ones), K tags: "O" first, then `B-t, I-t` per type; N spans.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torchcrf
from torch import Tensor
from torch.autograd.function import once_differentiable

from schema.errors import DataError

MAX_RANGE = 300.0  # nats between the transitions, starts or ends of one chain; see above


class Chain(NamedTuple):
    """A batch of chains, all float64."""

    emissions: Tensor  # [B, T, K], zeros at padding
    lengths: Tensor  # int64 [B], at least 1
    start: Tensor  # [K]
    step: Tensor  # [K, K], from row to column
    end: Tensor  # [K]


def sums(chain: Chain, both: bool) -> tuple[Tensor, Tensor | None, Tensor]:
    """Logarithms of sums over paths: to tag k at t, if `both` from k at t to the end, [B, T, K] each, and log Z, [B].

    Emission t is included in both; padding is arbitrary. log Z is nan if a range exceeds MAX_RANGE.
    """
    emissions, lengths, start, step, end = chain
    order = torch.arange(emissions.shape[1], device=lengths.device)
    reversal = (lengths[:, None] - 1 - order).clamp(min=0)[..., None].expand_as(emissions)  # of the real words
    sides, firsts, steps = [emissions], [start], [step]
    if both:
        sides, firsts, steps = [emissions, emissions.gather(1, reversal)], [start, end], [step, step.t()]
    with torch.autocast(emissions.device.type, enabled=False):
        logs = _forward_sums(torch.stack(sides), torch.stack(firsts), torch.stack(steps))  # [1 or 2, B, T, K]
    last = logs[0].gather(1, (lengths - 1)[:, None, None].expand(-1, 1, logs.shape[3]))[:, 0]
    log_z = torch.logsumexp(last + end, dim=1)
    for edges in (start, step, end):
        log_z = torch.where(edges.max() - edges.min() > MAX_RANGE, torch.nan, log_z)
    return logs[0], logs[1].gather(1, reversal) if both else None, log_z


def _forward_sums(emissions: Tensor, first: Tensor, step: Tensor) -> Tensor:
    """Logarithms of the forward sums of S batches at once: emissions [S, B, T, K], first [S, K], step [S, K, K]."""
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
    """log Z of a chain, [B], from its five parts."""

    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        result = sums(Chain(*parts), both=any(ctx.needs_input_grad))
        ctx.save_for_backward(*parts, *result)
        return result[2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        emissions, lengths, _, step, _, forward, backward, log_z = ctx.saved_tensors
        real = torch.arange(forward.shape[1], device=grad.device) < lengths[:, None]  # [B, T]
        tags = (forward + backward - emissions - log_z[:, None, None]).exp()  # P(tag k at t)
        tags = tags.masked_fill(~real[..., None], 0.0) * grad[:, None, None]
        # P(tag i at t, tag j at t + 1), summed over t and posts, weighted by grad; scaled so that nothing overflows
        before, after = forward[:, :-1], (backward[:, 1:] - log_z[:, None, None])
        after = after.masked_fill(~real[:, 1:, None], -torch.inf)
        rise, peak = before.amax(dim=2, keepdim=True), step.max()
        left, right = (before - rise).exp() * grad[:, None, None], (after + rise + peak).exp()
        pairs = left.flatten(0, 1).t() @ right.flatten(0, 1) * (step - peak).exp()
        last = tags.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, tags.shape[2]))
        return tags, None, tags[:, 0].sum(0), pairs, last[:, 0].sum(0)


Transitions = tuple[Tensor, Tensor]  # bool: tags that may start a sequence [K], may follow another [K, K] (from, to)


def iob2_transitions(tags: Sequence[str]) -> Transitions:
    """What IOB2 allows: `I-t` follows `B-t` or `I-t` only, and starts no sequence."""
    fits = [[not b.startswith("I-") or (a[:2] in ("B-", "I-") and a[2:] == b[2:]) for b in tags] for a in tags]
    return torch.tensor([not tag.startswith("I-") for tag in tags]), torch.tensor(fits)


class CRF(torchcrf.CRF):
    """CRF over emissions [B, T, K]; masks are bool [B, T], True = real, real words first, at least one per post.

    Parameters are pytorch-crf's: `start_transitions` [K], `end_transitions` [K], `transitions` [K, K] (from, to).
    Results are float32 (float64 for float64 emissions), under autocast too; sums and differences are float64, so that
    small scores are not lost beside large ones.
    """

    def __init__(self, num_tags: int) -> None:
        super().__init__(num_tags, batch_first=True)

    def nll(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Negative log-likelihood of `tags` int64 [B, T] (anything at padding): [B], float32 or float64."""
        with torch.autocast(emissions.device.type, enabled=False):
            loss = self.log_partition(emissions, mask) - self._score(emissions.double(), tags, mask)
            return loss.to(torch.promote_types(emissions.dtype, torch.float32))

    def log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Log of the sum over all tag paths (Eq. 13's denominator): float64 [B]."""
        return LogZ.apply(*self._chain(emissions, mask))

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
        self._check(emissions, mask)
        real = torch.where(mask[..., None], emissions, 0.0).double()
        edges = (self.start_transitions, self.transitions, self.end_transitions)
        return Chain(real, mask.sum(1), *(edge.double() for edge in edges))

    @torch.no_grad()
    def decode(
        self, emissions: Tensor, mask: Tensor | None = None, allowed: Transitions | None = None
    ) -> list[list[int]]:
        """The best tag path of each post (Viterbi), as long as the post; only transitions in `allowed`."""
        if mask is None:
            mask = torch.ones(emissions.shape[:2], dtype=torch.bool, device=emissions.device)
        self._check(emissions, mask)
        emissions = emissions.to(torch.promote_types(emissions.dtype, torch.float32))
        start, step = self.start_transitions, self.transitions
        if allowed is not None:
            may_start, may_follow = (part.to(start.device) for part in allowed)
            start, step = start.masked_fill(~may_start, -torch.inf), step.masked_fill(~may_follow, -torch.inf)
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

        `posts` int64 [N]: row of the batch; `spans` int64 [N, 2]: its words `[start, end)`; `begin` and `inside` int64
        [N]: the tags `B-t` and `I-t`. P(B-t at start, I-t up to end, then not I-t | S, O). Raises DataError for a span
        outside its post.
        """
        chain = self._chain(emissions, mask)
        first, stop = spans.unbind(1)
        _check_spans(posts, first, stop, chain.lengths)
        forward, backward, log_z = sums(chain, both=True)
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


def _check_spans(posts: Tensor, start: Tensor, stop: Tensor, lengths: Tensor) -> None:
    in_batch = (posts >= 0) & (posts < len(lengths))
    inside = in_batch & (start >= 0) & (start < stop) & (stop <= lengths[posts.clamp(0, len(lengths) - 1)])
    if not bool(inside.all()):
        at = int((~inside).nonzero()[0])
        n_words = f"of {int(lengths[posts[at]])} words" if in_batch[at] else f"of {len(lengths)} posts"
        found = f"words [{int(start[at])}, {int(stop[at])}) of post {int(posts[at])} {n_words}"
        raise DataError("a span lies outside its post", found=found)
