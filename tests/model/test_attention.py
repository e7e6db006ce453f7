"""Attention over rows against softmax(Q K^T + position) V, and the R that it returns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model import interaction
from model.interaction import AttentionInputs, Shape, attend
from tests.model.test_position import DIM, expected_scores, random_inputs

SHAPE = Shape(posts=3, text=4, objects=2, heads=2)


def inputs_of(shape: Shape, text_only: bool, position: bool) -> AttentionInputs:
    bias = torch.zeros(shape.posts, 1, 1, shape.cells).double()
    bias[0, ..., 2] = -1e300
    x = random_inputs(shape, text_only, bias)
    return x if position else AttentionInputs(*x[:4])


def cells(shape: Shape, rows: Tensor) -> Tensor:
    """Rows as [B, H, I, C]."""
    parts = [rows[: shape.text_rows].view(shape.posts, shape.text, shape.heads, -1)]
    if len(rows) > shape.text_rows:
        parts.append(rows[shape.text_rows :].view(shape.posts, shape.objects, shape.heads, -1))
    return torch.cat(parts, dim=1).transpose(1, 2)


def expected_values(shape: Shape, x: AttentionInputs) -> Tensor:
    query, keys, values = (cells(shape, rows) for rows in x[:3])
    scores = query @ keys.transpose(2, 3) + (0 if x.bias is None else x.bias)
    if x.position_query is not None:
        scores = scores + expected_scores(shape, x)
    mixed = (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
    return torch.cat([part.reshape(-1, DIM) for part in mixed.split([shape.text, mixed.shape[1] - shape.text], dim=1)])


@pytest.mark.parametrize("text_only", [False, True])
@pytest.mark.parametrize("position", [False, True])
@pytest.mark.parametrize("chunk_rows", [1, 8, 512])
def test_values_and_gradients(
    monkeypatch: pytest.MonkeyPatch, text_only: bool, position: bool, chunk_rows: int
) -> None:
    monkeypatch.setattr(interaction, "ATTENTION_ROWS", chunk_rows)
    x = inputs_of(SHAPE, text_only, position)
    leaves = list(x[:3]) + ([x.position_query] if x.position_query is not None else [])
    for leaf in leaves:
        leaf.requires_grad_()
    mixed, relative = attend(SHAPE, x)
    expected = expected_values(SHAPE, x)
    torch.testing.assert_close(mixed, expected)
    upstream = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad((out * upstream).sum(), leaves) for out in (mixed, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    assert [part is None for part in relative] == [not position] * 3
    with torch.no_grad():
        torch.testing.assert_close(attend(SHAPE, x)[0], expected)


def test_the_gradient_of_r_is_the_sum_over_all_layers() -> None:
    x = inputs_of(SHAPE, False, True)
    parts = [part.requires_grad_() for part in x.relative if part is not None]
    expected = expected_values(SHAPE, x)
    upstream = torch.randn_like(expected)
    of_one_layer = torch.autograd.grad((expected * upstream).sum(), parts)
    first, relative = attend(SHAPE, x)
    second, _ = attend(SHAPE, AttentionInputs(*x[:7], *relative))
    of_two_layers = torch.autograd.grad(((first + second) * upstream).sum(), parts)
    for one, other in zip(of_two_layers, of_one_layer, strict=True):
        torch.testing.assert_close(one, 2 * other)


def test_a_key_at_padding_gets_no_attention() -> None:
    x = inputs_of(SHAPE, False, True)
    before = attend(SHAPE, x)[0]
    x.values[2] += 1e3  # cell 2 of post 0
    assert torch.equal(attend(SHAPE, x)[0], before)
