"""Attention head by head and key by key; the layer against torch's own; no real key, no contribution."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from model.baselines.layers import FeedForward, MultiHead, TransformerLayer
from schema.errors import DataError


def heads_by_loops(module: MultiHead, queries: Tensor, keys: Tensor) -> Tensor:
    """One post without padding: [Q, D]."""
    dim = queries.shape[1]
    width = dim // module.heads
    key_map, value_map = module.key_value.weight[:dim], module.key_value.weight[dim:]
    rows = []
    for query in queries:
        mixed = []
        for head in range(module.heads):
            own = slice(head * width, (head + 1) * width)
            q = module.query.weight[own] @ query
            scores = torch.stack([q @ (key_map[own] @ key) / math.sqrt(width) for key in keys])
            weights = scores.exp() / scores.exp().sum()
            mixed.append(
                sum((w * (value_map[own] @ key) for w, key in zip(weights, keys, strict=True)), torch.zeros(()))
            )
        rows.append(module.output.weight @ torch.cat(mixed))
    return torch.stack(rows)


@torch.no_grad()
def test_attention_is_each_head_over_real_keys() -> None:
    torch.manual_seed(0)
    module = MultiHead(6, 3).double()
    queries, keys = torch.randn(2, 4, 6).double(), torch.randn(2, 5, 6).double()
    mask = torch.tensor([[True, True, False, True, False], [True] * 5])
    found = module(queries, keys, mask)
    for row in range(2):
        torch.testing.assert_close(found[row], heads_by_loops(module, queries[row], keys[row][mask[row]]))


def test_no_real_key_gives_zeros_and_no_gradient() -> None:
    module = MultiHead(4, 2)
    queries, keys = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 2, 4)
    found = module(queries, keys, torch.tensor([[False, False], [True, False]]))
    assert not found[0].any()
    assert found[1].any()
    found.square().sum().backward()
    assert queries.grad is not None
    assert not queries.grad[0].any()
    assert queries.grad.isfinite().all()
    assert not module(queries, keys[:, :0], torch.ones(2, 0, dtype=torch.bool)).any()


@torch.no_grad()
def test_the_layer_is_torchs_post_norm_layer() -> None:
    torch.manual_seed(1)
    ours = TransformerLayer(8, 2, 12, 0.0).double().eval()
    peer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True).double().eval()
    for parameter in ours.parameters():
        parameter.normal_()
    pairs = {"norm1": ours.norm1, "norm2": ours.norm2, "linear1": ours.ffn.first, "linear2": ours.ffn.last}
    for name, module in pairs.items():
        getattr(peer, name).load_state_dict(module.state_dict())
    peer.self_attn.in_proj_weight.copy_(torch.cat([ours.attention.query.weight, ours.attention.key_value.weight]))
    peer.self_attn.out_proj.weight.copy_(ours.attention.output.weight)
    peer.self_attn.in_proj_bias.zero_()
    peer.self_attn.out_proj.bias.zero_()
    cells, mask = torch.randn(2, 5, 8).double(), torch.tensor([[True] * 5, [True, True, True, False, False]])
    found, expected = ours(cells, cells, mask), peer(cells, src_key_padding_mask=~mask)
    torch.testing.assert_close(found[mask], expected[mask])


@torch.no_grad()
def test_feed_forward_by_hand() -> None:
    module = FeedForward(2, 2, 1)
    module.first.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    module.first.bias.copy_(torch.tensor([0.0, 1.0]))
    module.last.weight.copy_(torch.tensor([[2.0, 3.0]]))
    module.last.bias.fill_(0.5)
    # hidden (3, 0) and (-1 -> 0, 4): 2*3 + 0.5 and 3*4 + 0.5
    torch.testing.assert_close(module(torch.tensor([[[1.0, 2.0], [1.0, -2.0]]])), torch.tensor([[[6.5], [12.5]]]))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(DataError, match=r"dim must be a multiple of heads \(found dim 6, heads 4\)"):
        MultiHead(6, 4)
