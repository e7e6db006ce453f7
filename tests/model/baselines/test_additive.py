"""Additive attention against plain loops, and why its parts are added before the tanh."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from model.baselines.layers import AdditiveAttention


@pytest.fixture
def made() -> tuple[AdditiveAttention, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False], [False] * 4])
    return AdditiveAttention(5, 3, 6), torch.randn(3, 2, 5), torch.randn(3, 4, 3), mask


@torch.no_grad()
def by_loops(attention: AdditiveAttention, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    shares = torch.zeros(len(queries), queries.shape[1], keys.shape[1])
    for b in range(len(queries)):
        real = [k for k in range(keys.shape[1]) if mask[b, k]]
        for q in range(queries.shape[1]):
            scores = []
            for k in real:
                hidden = (
                    attention.query.weight @ queries[b, q] + attention.query.bias + attention.key.weight @ keys[b, k]
                )
                scores.append(float(attention.score.weight[0] @ hidden.tanh()))
            for k, score in zip(real, scores, strict=True):
                shares[b, q, k] = math.exp(score) / sum(map(math.exp, scores))
    return shares


@torch.no_grad()
def test_shares_are_those_of_plain_loops(made: tuple[AdditiveAttention, Tensor, Tensor, Tensor]) -> None:
    attention, queries, keys, mask = made
    shares = attention(queries, keys, mask)
    torch.testing.assert_close(shares, by_loops(attention, queries, keys, mask))
    torch.testing.assert_close(shares.sum(2), torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]))
    assert not torch.allclose(shares[0, 0], shares[0, 1], atol=1e-3), "each query attends in its own way"


@torch.no_grad()
def test_a_concatenation_would_make_all_queries_attend_alike(
    made: tuple[AdditiveAttention, Tensor, Tensor, Tensor],
) -> None:
    attention, queries, keys, _ = made
    left, right = attention.query(queries).tanh(), attention.key(keys).tanh()
    pairs = torch.cat([left[:, :, None].expand(-1, -1, 4, -1), right[:, None].expand(-1, 2, -1, -1)], 3)
    shares = (pairs @ torch.randn(12)).softmax(2)
    torch.testing.assert_close(shares[:, 0], shares[:, 1])


def test_without_any_key(made: tuple[AdditiveAttention, Tensor, Tensor, Tensor]) -> None:
    attention, queries, keys, mask = made
    queries.requires_grad_()
    none = attention(queries, keys[:, :0], mask[:, :0])
    assert none.shape == (3, 2, 0)
    attention(queries, keys, mask)[2].sum().backward()
    assert queries.grad is not None
    assert torch.equal(queries.grad, torch.zeros_like(queries))
