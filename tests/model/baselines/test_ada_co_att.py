"""Ada-Co-ATT: both attentions and both gates by plain loops, and what every approach has to keep."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from model.baselines.ada_co_att import AdaCoAtt, CharWindows, CoAttention
from model.baselines.layers import AdditiveAttention
from model.baselines.recurrent import CnnBiLSTMCRF
from tests.model.baselines.contract import LearnsAll, batch_of, built, posts_of, spec_of

NAME = "ada-co-att"


def test_cells_begin_where_the_tanh_is_not_flat():
    torch.manual_seed(0)
    net = CoAttention(8, 2048, 0.5)
    before = net.cells(torch.randn(100, 2048))
    assert before.std() < 0.8, "Glorot's weights make it 1.4"


def through(layer: nn.Linear, value: Tensor) -> Tensor:
    return layer.weight @ value + layer.bias


def attended(net: AdditiveAttention, query: Tensor, keys: list[Tensor]) -> Tensor:
    """The mean of the keys by their shares; zero where there is none."""
    if not keys:
        return torch.zeros_like(net.key.weight[0])
    scores = torch.stack(
        [net.score.weight[0] @ torch.tanh(net.key.weight @ key + through(net.query, query)) for key in keys]
    )
    shares = scores.exp() / scores.exp().sum()
    return sum((share * key for share, key in zip(shares, keys, strict=True)), torch.zeros_like(keys[0]))


@torch.no_grad()
def by_equations(net: CoAttention, words: list[Tensor], cells: list[Tensor]) -> Tensor:
    """One post, word by word."""
    mean = net.standard.total / net.standard.count
    spread = (net.standard.squares / net.standard.count - mean**2).sqrt()
    cells = [torch.tanh(through(net.cells, (cell - mean) / spread)) for cell in cells]
    found = []
    for word in words:
        image = attended(net.visual, word, cells)
        text = attended(net.textual, image, words)
        image, text = torch.tanh(through(net.new_visual, image)), torch.tanh(through(net.new_textual, text))
        gate = torch.sigmoid(net.fusion.weight @ torch.cat([image, text]))
        fused = gate * image + (1 - gate) * text
        kept = torch.sigmoid(through(net.filtration, torch.cat([word, fused])))
        found.append(net.joined.weight @ torch.cat([word, kept * torch.tanh(through(net.reserved, fused))]))
    return torch.stack(found)


@torch.no_grad()
def test_co_attention_by_the_equations() -> None:
    torch.manual_seed(0)
    net = CoAttention(6, 4, 0.5).double()
    for one in net.parameters():
        if one.dim() == 1:  # a bias of zero would hide
            nn.init.normal_(one)
    words, cells = torch.randn(3, 5, 6).double(), torch.randn(3, 4, 4).double()
    n_words, n_cells = (5, 2, 3), (4, 2, 0)
    mask = torch.arange(5) < torch.tensor(n_words)[:, None]
    net.standard.learn(cells.numpy())  # so that it has something to standardise by
    net.eval()
    words[~mask] = torch.nan  # padding may hold anything
    found = net(words, mask, cells, torch.arange(4) < torch.tensor(n_cells)[:, None])
    for row, (n, m) in enumerate(zip(n_words, n_cells, strict=True)):
        expected = by_equations(net, list(words[row, :n]), list(cells[row, :m]))
        torch.testing.assert_close(found[row, :n], expected)


@torch.no_grad()
def spelled(net: CharWindows, ids: list[int]) -> Tensor:
    """One word's vector: window by window, filter by filter."""
    found = []
    for window, layer in zip((2, 3, 4), net.filters, strict=True):
        vectors = [*(net.characters.weight[one] for one in ids), *[torch.zeros(30)] * (window - 1)]
        for weights, bias in zip(layer.weight, layer.bias, strict=True):
            values = [
                torch.tanh(bias + sum(weights[:, j] @ vectors[i + j] for j in range(window))) for i in range(len(ids))
            ]
            found.append(max(values))
    return torch.stack(found)


@torch.no_grad()
def test_characters_by_plain_loops() -> None:
    torch.manual_seed(0)
    net = CharWindows(9, 0.5).eval()
    for layer in net.filters:
        torch.nn.init.normal_(layer.bias)
    words = [[3, 4, 5, 8, 6], [2], [7, 7]]
    padded = torch.tensor([[*word, *[0] * (5 - len(word))] for word in words])
    found = net(padded, torch.tensor([5, 1, 2]))
    assert found.shape == (3, 96)
    torch.testing.assert_close(found, torch.stack([spelled(net, word) for word in words]))


@torch.no_grad()
def test_it_stands_between_bilstm_and_crf(encoder: Path) -> None:
    given = spec_of(encoder, NAME)
    tagger = built(given, NAME)
    assert isinstance(tagger, AdaCoAtt)
    batch = batch_of(tagger, given.config, *posts_of())
    assert batch.object_mask.sum(1).tolist() == [3, 1, 2, 0]
    before = CnnBiLSTMCRF.contexts(tagger, batch, tagger.vectors(batch.inputs))
    words = tagger.co_attention(before, batch.word_mask, batch.objects, batch.object_mask)
    expected = words @ tagger.tag.weight.T + tagger.tag.bias
    torch.testing.assert_close(tagger.emissions(batch)[batch.word_mask], expected[batch.word_mask])


class TestKeeps(LearnsAll):
    name = NAME
