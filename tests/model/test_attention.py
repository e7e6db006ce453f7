"""Attention over rows against softmax(Q K^T + position) V written out, and what it hands on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model import interaction
from model.interaction import AttentionInputs, Shape, attend
from tests.model.test_position import DIM, place_of, written_out

SHAPE = Shape(posts=3, text=4, objects=2, heads=2)


def inputs_of(shape: Shape, text_only: bool, position: bool) -> AttentionInputs:
    place = place_of(shape, text_only) if position else None
    n_rows = shape.posts * shape.cells
    rows = [torch.randn(n, DIM).double() for n in (shape.text_rows if text_only else n_rows, n_rows, n_rows)]
    bias = torch.zeros(shape.posts, 1, 1, shape.cells).double()
    bias[0, ..., 2] = -1e300
    return AttentionInputs(rows[0], rows[1], rows[2], bias, place)


def cells(shape: Shape, rows: Tensor) -> Tensor:
    """Rows as [B, H, I, C]."""
    parts = [rows[: shape.text_rows].view(shape.posts, shape.text, shape.heads, -1)]
    if len(rows) > shape.text_rows:
        parts.append(rows[shape.text_rows :].view(shape.posts, shape.objects, shape.heads, -1))
    return torch.cat(parts, dim=1).transpose(1, 2)


def slowly(shape: Shape, x: AttentionInputs) -> Tensor:
    query, keys, values = (cells(shape, rows) for rows in x[:3])
    scores = query @ keys.transpose(2, 3) + (0 if x.bias is None else x.bias)
    if x.position is not None:
        scores = scores + written_out(shape, x.position.query, x.position.weight, x.position.relative)
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
    leaves = list(x[:3]) + ([x.position.query] if x.position is not None else [])
    for leaf in leaves:
        leaf.requires_grad_()
    found, relative = attend(SHAPE, x)
    wanted = slowly(SHAPE, x)
    torch.testing.assert_close(found, wanted)
    owed = torch.randn_like(wanted)
    ours, theirs = (torch.autograd.grad((out * owed).sum(), leaves) for out in (found, wanted))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    assert (relative is None) == (not position)
    with torch.no_grad():
        torch.testing.assert_close(attend(SHAPE, x)[0], wanted)


def test_r_gathers_the_gradients_of_all_layers_in_one_buffer() -> None:
    x = inputs_of(SHAPE, False, True)
    assert x.position is not None
    across = [part.requires_grad_() for part in x.position.relative[1:] if part is not None]
    wanted = slowly(SHAPE, x)
    owed = torch.randn_like(wanted)
    once = torch.autograd.grad((wanted * owed).sum(), across)
    mixed, relative = attend(SHAPE, x)
    assert relative is not None
    again, _ = attend(SHAPE, x._replace(position=x.position._replace(relative=relative)))
    for one, other in zip(torch.autograd.grad(((mixed + again) * owed).sum(), across), once, strict=True):
        torch.testing.assert_close(one, 2 * other)


def test_a_key_at_padding_gets_no_attention() -> None:
    x = inputs_of(SHAPE, False, True)
    before = attend(SHAPE, x)[0]
    x.values[2] += 1e3  # cell 2 of post 0
    assert torch.equal(attend(SHAPE, x)[0], before)
