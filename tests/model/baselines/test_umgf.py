"""UMGF against its equations, node by node and edge by edge; the graph of a post by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torchcrf
from torch import Tensor

from model.baselines.umgf import UMGF, Gate, Interaction, Nodes, edges_of
from model.data import Batch
from tests.model.baselines.contract import LearnsWithoutImages, batch_of, built, posts_of, spec_of
from tests.model.baselines.test_umt import read
from tests.model.oracle import normed, sinusoid
from tests.model.tiny import LABELS


@pytest.fixture
def tagger(encoder: Path) -> UMGF:
    made = built(spec_of(encoder, "umgf"), "umgf")
    assert isinstance(made, UMGF)
    return made


@pytest.fixture
def batch(encoder: Path, tagger: UMGF) -> Batch:
    return batch_of(tagger, spec_of(encoder, "umgf").config, *posts_of())


def test_edges_by_hand() -> None:
    spans = torch.tensor([[[1, 4], [2, 3], [1, 4]], [[1, 2], [2, 2], [1, 2]]])
    words = torch.tensor([[True] * 4, [True, True, False, False]])
    objects = torch.tensor([[True, True, False], [True, True, True]])
    expected = [
        [[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 0, 0]],
        [[1, 0, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]],
    ]
    assert edges_of(spans, words, objects).int().tolist() == expected


def test_nodes_are_grounded_objects_only(batch: Batch) -> None:
    # two general words and two phrases, none, two and one, none: whole images are no nodes
    assert batch.object_mask.sum(1).tolist() == [4, 0, 3, 0]
    assert batch.spans[0].tolist() == [[1, 4], [1, 4], [1, 2], [2, 3]]


@torch.no_grad()
def test_a_gate_by_hand() -> None:
    gate = Gate(2)
    gate.own.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    gate.other.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    own, others = torch.tensor([[[1.0, -1.0]]]), torch.tensor([[[3.0, 2.0], [5.0, 4.0], [7.0, 7.0]]])
    found = gate(own, others, torch.tensor([[[True, True, False]]]))

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    # W own = (1, -2); W' others = (2, 3) and (4, 5); the third is no neighbour
    first = 1 + sigmoid(1 + 2) * 3 + sigmoid(1 + 4) * 5
    second = -1 + sigmoid(-2 + 3) * 2 + sigmoid(-2 + 5) * 4
    torch.testing.assert_close(found, torch.tensor([[[first, second]]]))


def fused(nodes: Nodes, own: Tensor, others: Tensor, edges: Tensor) -> Tensor:
    """Eq. 3-8 of one post: R by its sum over neighbours, then the feed-forward network."""
    state, rows = nodes.state_dict(), []
    for i, context in enumerate(own):
        total = context
        for j, other in enumerate(others):
            if edges[i, j]:
                alpha = torch.sigmoid(nodes.gate.own.weight @ context + nodes.gate.other.weight @ other)
                total = total + alpha * other
        hidden = torch.relu(state["ffn.first.weight"] @ total + state["ffn.first.bias"])
        rows.append(normed(state, "norm", total + state["ffn.last.weight"] @ hidden + state["ffn.last.bias"]))
    return torch.stack(rows) if rows else own


def interaction(module: Interaction, words: Tensor, objects: Tensor, edges: Tensor) -> Tensor:
    """H_x of one post without padding."""
    place = torch.stack([sinusoid(k + 1, words.shape[1]) for k in range(len(words))]).to(words.dtype)

    def mlp(name: str, cells: Tensor) -> Tensor:
        state = module.state_dict()
        hidden = torch.relu(cells @ state[f"{name}.first.weight"].T + state[f"{name}.first.bias"])
        return hidden @ state[f"{name}.last.weight"].T + state[f"{name}.last.bias"]

    text, things = mlp("text", words + place), mlp("objects", objects)
    for mine, theirs in zip(module.word_nodes, module.object_nodes, strict=True):
        assert isinstance(mine, Nodes)
        assert isinstance(theirs, Nodes)
        context, seen = read(mine.intra, text, text), read(theirs.intra, things, things)
        text, things = fused(mine, context, seen, edges), fused(theirs, seen, context, edges.T)
    return text


@torch.no_grad()
def test_interaction_is_its_equations() -> None:
    torch.manual_seed(3)
    module = Interaction(6, 2, 3, 5, 0.3, 8, 4).double().eval()
    words, objects = torch.randn(3, 5, 8).double(), torch.randn(3, 4, 4).double()
    n_words, n_objects = (5, 3, 4), (4, 2, 0)
    spans = torch.tensor([[[1, 5], [2, 3], [4, 4], [1, 2]], [[1, 3], [2, 2], [0, 0], [0, 0]], [[0, 0]] * 4])
    word_mask, object_mask = (torch.arange(n) < torch.tensor(of)[:, None] for n, of in ((5, n_words), (4, n_objects)))
    found = module(words, word_mask, objects, spans, object_mask)
    for row, (n, m) in enumerate(zip(n_words, n_objects, strict=True)):
        edges = torch.tensor(
            [[bool(spans[row, j, 0] <= i + 1 <= spans[row, j, 1]) for j in range(m)] for i in range(n)]
        )
        expected = interaction(module, words[row, :n], objects[row, :m], edges.reshape(n, m))
        torch.testing.assert_close(found[row, :n], expected)
    without = module(words, word_mask, objects[:, :0], spans[:, :0], object_mask[:, :0])
    torch.testing.assert_close(without[2, :4], found[2, :4])


@torch.no_grad()
def test_loss_is_a_crf_over_word_nodes(tagger: UMGF, batch: Batch) -> None:
    peer = torchcrf.CRF(len(LABELS.tags), batch_first=True)
    peer.load_state_dict(tagger.crf.state_dict())
    assert len(tagger.interaction.word_nodes) == 2
    text, losses = tagger.words(batch.inputs, len(batch)), tagger.losses(batch)
    for row, post in enumerate(posts_of()[0]):
        n, m = post.n_words, int(batch.object_mask[row].sum())
        edges = edges_of(batch.spans, batch.word_mask, batch.object_mask)[row, :n, :m]
        nodes = interaction(tagger.interaction, text[row, 1 : n + 1], batch.objects[row, :m], edges)
        tags = torch.tensor([[LABELS.tag_ids[tag] for tag in post.tags or ()]])
        torch.testing.assert_close(losses[row], -peer(tagger.tag(nodes)[None], tags), atol=1e-4, rtol=1e-4)


class TestKeeps(LearnsWithoutImages):
    name = "umgf"
