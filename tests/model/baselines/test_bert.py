"""BERT decides word by word: cross-entropy, arg-max, and confidences that are products of softmaxes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from model.baselines.bert import Softmax
from model.crf import CRF, iob2_transitions
from model.data import PostDataset
from model.objects import FromMemory
from model.predict import decode
from tests.model.baselines.contract import Keeps, batch_of, built, posts_of, spec_of
from tests.model.tiny import LABELS


def test_the_loss_is_the_words_cross_entropy(encoder: Path) -> None:
    given = spec_of(encoder, "bert")
    tagger, (posts, objects) = built(given, "bert"), posts_of()
    batch = batch_of(tagger, given.config, posts, objects)
    emissions, losses = tagger.emissions(batch), tagger.losses(batch)
    for row, post in enumerate(posts):
        tags = torch.tensor([LABELS.tag_ids[tag] for tag in post.tags or ()])
        expected = F.cross_entropy(emissions[row, : post.n_words], tags, reduction="sum")
        torch.testing.assert_close(losses[row], expected)


@torch.no_grad()
def test_it_is_a_crf_without_transitions() -> None:
    softmax, crf = Softmax(5), CRF(5)
    for parameter in crf.parameters():
        parameter.zero_()
    emissions, tags = torch.randn(3, 6, 5).double(), torch.randint(5, (3, 6))
    mask = torch.arange(6) < torch.tensor([[6], [2], [1]])
    torch.testing.assert_close(softmax.nll(emissions, tags, mask), crf.nll(emissions, tags, mask))
    torch.testing.assert_close(softmax.log_partition(emissions, mask), crf.log_partition(emissions, mask))
    assert softmax.state_dict() == {}
    assert list(softmax.parameters()) == []


def test_decodes_each_word_independently() -> None:
    emissions = torch.zeros(2, 3, 5)
    emissions[0, 0, 2] = emissions[0, 1, 0] = emissions[0, 2, 4] = emissions[1, 0, 3] = 9.0  # I-PER O I-LOC; B-LOC
    mask = torch.tensor([[True] * 3, [True, False, False]])
    for allowed in (None, iob2_transitions(LABELS.tags)):
        assert Softmax(5).decode(emissions, mask, allowed) == [[2, 0, 4], [3]]
    assert Softmax(5).decode(emissions[:1]) == [[2, 0, 4]]


def test_a_confidence_is_a_product_of_softmaxes(encoder: Path) -> None:
    given = spec_of(encoder, "bert")
    tagger, (posts, objects) = built(given, "bert"), posts_of()
    with torch.no_grad():
        tagger.tag.bias[1] += 1.0  # so that some entity is found
        tagger.tag.weight.mul_(20)
        probabilities = tagger.emissions(batch_of(tagger, given.config, posts, objects)).double().softmax(-1)
    dataset = PostDataset(posts, FromMemory(objects), LABELS, tagger.featurizer, given.config)
    n_found = n_long = 0
    for row, one in enumerate(decode(tagger, dataset, given.config, torch.device("cpu"), confidences=True)):
        assert one.tags == tuple(LABELS.tags[k] for k in probabilities[row, : posts[row].n_words].argmax(-1).tolist())
        for entity, confidence in zip(one.entities, one.confidences, strict=True):
            begin, inside = LABELS.tag_ids[f"B-{entity.type}"], LABELS.tag_ids[f"I-{entity.type}"]
            start, end = entity.span.start, entity.span.end
            expected = probabilities[row, start, begin] * probabilities[row, start + 1 : end, inside].prod()
            if end < posts[row].n_words:
                expected = expected * (1 - probabilities[row, end, inside])
            assert confidence == pytest.approx(expected.item(), rel=1e-4)
            n_found, n_long = n_found + 1, n_long + (end < posts[row].n_words)
    assert n_found > 1
    assert n_long > 0


class TestKeeps(Keeps):
    name = "bert"
