"""Sums over tag paths against brute force, their gradient against finite differences."""

from __future__ import annotations

import itertools

import pytest
import torch

from model.crf import MAX_RANGE, Chain, LogZ, sums


def chain_of(lengths: list[int], n_tags: int, scale: float = 1.0) -> Chain:
    torch.manual_seed(len(lengths) + n_tags)
    emissions = torch.randn(len(lengths), max(lengths), n_tags, dtype=torch.float64) * scale
    emissions[torch.arange(max(lengths))[None] >= torch.tensor(lengths)[:, None]] = 0
    edges = (torch.randn(n_tags), torch.randn(n_tags, n_tags), torch.randn(n_tags))
    return Chain(emissions, torch.tensor(lengths), *(edge.double() for edge in edges))


def brute(chain: Chain, post: int, first: int, last: int, tag: int, at: int) -> float:
    """Log of the sum over tag paths of words first..last with `tag` at word `at`; edges where they belong."""
    scores = []
    for path in itertools.product(range(chain.step.shape[0]), repeat=last - first + 1):
        if path[at - first] == tag:
            parts = [chain.emissions[post, first + t, k] for t, k in enumerate(path)]
            parts += [chain.step[a, b] for a, b in itertools.pairwise(path)]
            parts += [chain.start[path[0]]] if first == 0 else []
            parts += [chain.end[path[-1]]] if last == int(chain.lengths[post]) - 1 and at == first else []
            scores.append(torch.stack(parts).sum())
    return torch.stack(scores).logsumexp(0).item()


def test_sums_are_those_of_all_paths() -> None:
    chain = chain_of([4, 1, 3], 3)
    forward, backward, log_z = sums(chain, both=True)
    assert backward is not None
    for post, length in enumerate([4, 1, 3]):
        for t, tag in itertools.product(range(length), range(3)):
            if t < length - 1:
                expected = brute(chain, post, 0, t, tag, t)
                assert forward[post, t, tag].item() == pytest.approx(expected, abs=1e-11)
            expected = brute(chain, post, t, length - 1, tag, t) - (chain.start[tag].item() if t == 0 else 0)
            assert backward[post, t, tag].item() == pytest.approx(expected, abs=1e-11)
    torch.testing.assert_close(log_z, torch.logsumexp(chain.start + backward[:, 0], dim=1))
    assert sums(chain, both=False)[1] is None


@pytest.mark.parametrize("lengths", [[1], [4, 1, 3], [2, 2]])
def test_gradient_is_that_of_finite_differences(lengths: list[int]) -> None:
    parts = [part.clone().requires_grad_(part.is_floating_point()) for part in chain_of(lengths, 3)]
    assert torch.autograd.gradcheck(LogZ.apply, parts)


def slow_log_z(chain: Chain) -> torch.Tensor:
    """In logs, by autograd's own operations."""
    sums_ = chain.start + chain.emissions[:, 0]
    for t in range(1, chain.emissions.shape[1]):
        moved = torch.logsumexp(sums_[:, :, None] + chain.step, dim=1) + chain.emissions[:, t]
        sums_ = torch.where((t < chain.lengths)[:, None], moved, sums_)
    return torch.logsumexp(sums_ + chain.end, dim=1)


def exact(chain: Chain) -> None:
    """Value and gradients of LogZ are those of the slow loop."""
    found, expected = ([part.clone().requires_grad_(part.is_floating_point()) for part in chain] for _ in range(2))
    ours, theirs = LogZ.apply(*found), slow_log_z(Chain(*expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-9)
    weights = torch.arange(1, len(ours) + 1)
    for total in ((ours * weights).sum(), (theirs * weights).sum()):
        total.backward()
    for one, other in zip(found, expected, strict=True):
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [50.0, 5_000.0, 1e6])
def test_emissions_of_any_size_are_exact(scale: float) -> None:
    chain = chain_of([6, 4, 1], 4, scale)
    exact(chain)


@pytest.mark.parametrize("part", ["start", "step", "end"])
def test_transitions_up_to_the_range_are_exact(part: str) -> None:
    """A tag that looks lost by the whole range is saved by emissions that favour it."""
    chain, size = chain_of([5, 3], 3), 0.9 * MAX_RANGE
    edges = getattr(chain, part).clone()
    edges[0] = edges.max() + size - edges[0].abs().max() - 5 if part != "step" else edges[0] + size - 5
    emissions = chain.emissions.clone()
    emissions[:, 1, 1] += 2 * size
    exact(chain._replace(**{part: edges, "emissions": emissions}))


@pytest.mark.parametrize("part", ["start", "step", "end"])
def test_wider_transitions_give_nan(part: str) -> None:
    chain = chain_of([3, 2], 3)
    wide = chain._replace(**{part: getattr(chain, part) * 5000})
    assert LogZ.apply(*wide).isnan().all()
    assert LogZ.apply(wide.emissions.requires_grad_(), *wide[1:]).isnan().all()
