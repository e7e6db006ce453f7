"""UMT against its equations post by post; the conversion matrix by hand; what each stream may see."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchcrf
from torch import Tensor

from model.baselines.layers import TransformerLayer
from model.baselines.umt import UMT, Interaction, conversion, span_ids
from model.data import Batch
from tests.model.baselines.contract import LearnsWithoutImages, batch_of, built, posts_of, spec_of
from tests.model.baselines.test_multihead import heads_by_loops
from tests.model.oracle import normed
from tests.model.tiny import LABELS

Z = {"O": 0, "B": 1, "I": 2}


@pytest.fixture
def tagger(encoder: Path) -> UMT:
    made = built(spec_of(encoder, "umt"), "umt")
    assert isinstance(made, UMT)
    return made


@pytest.fixture
def batch(encoder: Path, tagger: UMT) -> Batch:
    return batch_of(tagger, spec_of(encoder, "umt").config, *posts_of())


def test_conversion_by_hand() -> None:
    assert LABELS.tags == ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    expected = [[1, 0, 0, 0, 0], [0, 0.5, 0, 0.5, 0], [0, 0, 0.5, 0, 0.5]]
    assert torch.equal(conversion(LABELS.tags), torch.tensor(expected))
    assert span_ids(LABELS.tags).tolist() == [0, 1, 2, 1, 2]


def read(layer: TransformerLayer, queries: Tensor, keys: Tensor) -> Tensor:
    """Cross-modal Transformer of one post without padding, cell by cell; no key: MH-CA is zero."""
    if not len(queries):
        return queries
    state = layer.state_dict()
    mixed = heads_by_loops(layer.attention, queries, keys) if len(keys) else torch.zeros_like(queries)
    rows = []
    for query, more in zip(queries, mixed, strict=True):
        cell = normed(state, "norm1", query + more)
        hidden = torch.relu(state["ffn.first.weight"] @ cell + state["ffn.first.bias"])
        rows.append(normed(state, "norm2", cell + state["ffn.last.weight"] @ hidden + state["ffn.last.bias"]))
    return torch.stack(rows)


def interaction(module: Interaction, text: Tensor, regions: Tensor) -> Tensor:
    """H = [A; B] of one post."""
    blocks = regions @ module.regions.weight.T
    words = read(module.words, text, text)
    aware = read(module.words_read_those, words, read(module.regions_read_words, blocks, words))
    visual = read(module.words_read_regions, words, blocks)
    gate = 1 / (1 + torch.exp(-(aware @ module.gate_words.weight.T + visual @ module.gate_regions.weight.T)))
    return torch.cat([aware, gate * visual], dim=1)


@torch.no_grad()
def test_interaction_is_its_equations() -> None:
    torch.manual_seed(2)
    module = Interaction(6, 2, 10, 0.3, 4).double().eval()
    text, regions = torch.randn(3, 5, 6).double(), torch.randn(3, 4, 4).double()
    n_cells, n_regions = (5, 3, 4), (4, 2, 0)
    text_mask, region_mask = (torch.arange(n) < torch.tensor(of)[:, None] for n, of in ((5, n_cells), (4, n_regions)))
    found = module(text, text_mask, regions, region_mask)
    for row, (n, m) in enumerate(zip(n_cells, n_regions, strict=True)):
        torch.testing.assert_close(found[row, :n], interaction(module, text[row, :n], regions[row, :m]))
    without = module(text, text_mask, regions[:, :0], region_mask[:, :0])
    torch.testing.assert_close(without[2, :4], found[2, :4])


@torch.no_grad()
def test_emissions_and_loss_add_the_span_scores(tagger: UMT, batch: Batch) -> None:
    emissions, losses = tagger.emissions(batch), tagger.losses(batch)
    assert tagger.span_weight == 0.5
    main, side = (torchcrf.CRF(n, batch_first=True) for n in (5, 3))
    main.load_state_dict(tagger.crf.state_dict())
    side.load_state_dict(tagger.span_crf.state_dict())
    text = tagger.words(batch.inputs, len(batch))
    posts, _ = posts_of()
    for row, post in enumerate(posts):
        n, m = post.n_words, int(batch.object_mask[row].sum())
        cells = text[row, : n + 2]
        hidden = interaction(tagger.interaction, cells, batch.objects[row, :m])[1:-1]
        marks = tagger.mark(read(tagger.spans, cells, cells)[1:-1])
        expected = tagger.tag(hidden)
        for word in range(n):
            for k, tag in enumerate(LABELS.tags):
                share = 1 if tag == "O" else 1 / len(LABELS.types)
                expected[word, k] += marks[word, Z[tag[0]]] * share
        torch.testing.assert_close(emissions[row, :n], expected, atol=1e-5, rtol=1e-4)
        tags = torch.tensor([[LABELS.tag_ids[tag] for tag in post.tags or ()]])
        spans = torch.tensor([[Z[tag[0]] for tag in post.tags or ()]])
        loss = -main(expected[None], tags) - 0.5 * side(marks[None], spans)
        torch.testing.assert_close(losses[row], loss, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_spans_are_read_from_text_only(tagger: UMT, batch: Batch) -> None:
    emissions, marks = tagger.scores(batch)
    object.__setattr__(batch, "objects", batch.objects + 1)
    changed, same = tagger.scores(batch)
    assert torch.equal(same, marks)
    assert not torch.allclose(changed[0], emissions[0])
    assert torch.equal(changed[3], emissions[3])  # the post without a image


def test_the_sizes_are_the_encoders(tagger: UMT) -> None:
    assert tagger.interaction.words.attention.heads == 4
    assert tagger.interaction.words.ffn.first.out_features == 64


class TestKeeps(LearnsWithoutImages):
    name = "umt"
