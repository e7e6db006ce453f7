"""Sums over tag paths against brute force, their gradient against finite differences."""

from __future__ import annotations

import itertools

import pytest
import torch

from model.chain import MAX_SPREAD, Chain, LogZ, sums


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
    found = sums(chain, both=True)
    assert found.backward is not None
    for post, length in enumerate([4, 1, 3]):
        for t, tag in itertools.product(range(length), range(3)):
            if t < length - 1:
                wanted = brute(chain, post, 0, t, tag, t)
                assert found.forward[post, t, tag].item() == pytest.approx(wanted, abs=1e-11)
            wanted = brute(chain, post, t, length - 1, tag, t) - (chain.start[tag].item() if t == 0 else 0)
            assert found.backward[post, t, tag].item() == pytest.approx(wanted, abs=1e-11)
    torch.testing.assert_close(found.log_z, torch.logsumexp(chain.start + found.backward[:, 0], dim=1))
    assert sums(chain, both=False).backward is None


@pytest.mark.parametrize("lengths", [[1], [4, 1, 3], [2, 2]])
def test_gradient_is_that_of_finite_differences(lengths: list[int]) -> None:
    parts = [part.clone().requires_grad_(part.is_floating_point()) for part in chain_of(lengths, 3)]
    assert torch.autograd.gradcheck(LogZ.apply, parts)


def test_wide_scores_within_the_limit_are_exact() -> None:
    chain = chain_of([6, 4], 4, scale=50.0)
    assert 150 < chain.spread() < MAX_SPREAD
    slow = chain.start + chain.emissions[:, 0]
    for t in range(1, 6):
        moved = torch.logsumexp(slow[:, :, None] + chain.step, dim=1) + chain.emissions[:, t]
        slow = torch.where((t < chain.lengths)[:, None], moved, slow)
    torch.testing.assert_close(LogZ.apply(*chain), torch.logsumexp(slow + chain.end, dim=1), rtol=1e-12, atol=0)


def test_beyond_the_limit_it_says_so() -> None:
    chain = chain_of([3], 2)
    chain.emissions[0, 1, 0] = 2 * MAX_SPREAD
    assert LogZ.apply(*chain).isnan().all()
