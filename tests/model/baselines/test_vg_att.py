"""VG-ATT: attention and modulation gate by plain loops, and what every approach has to keep."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from model.baselines.vg_att import VgAtt
from tests.model.baselines.contract import LearnsAll, batch_of, built, posts_of, spec_of
from tests.model.baselines.test_hbilstm_crf import in_context, scored, states, vectors_of
from tests.model.tiny import DIM

NAME = "vg-att"


@torch.no_grad()
def seen(tagger: VgAtt, words: list[Tensor], cells: list[Tensor]) -> Tensor:
    """v_c of one post, cell by cell."""
    if not cells:
        return torch.zeros(DIM)
    sentence = torch.cat(
        [
            states(tagger.sentence.forward_lstm, words)[-1],
            states(tagger.sentence.backward_lstm, words[::-1])[-1],
        ]
    )
    net = tagger.attention
    asked = net.query.weight @ sentence + net.query.bias
    scores = torch.stack([net.score.weight[0] @ torch.tanh(net.key.weight @ cell + asked) for cell in cells])
    weights = scores.exp() / scores.exp().sum()
    return sum((weight * cell for weight, cell in zip(weights, cells, strict=True)), torch.zeros(DIM))


@torch.no_grad()
def modulated(tagger: VgAtt, word: Tensor, context: Tensor) -> Tensor:
    width = len(word)
    parts = [
        tagger.gates.weight[k * width : (k + 1) * width] @ word
        + tagger.gates.bias[k * width : (k + 1) * width]
        + tagger.seen.weight[k * width : (k + 1) * width] @ context
        for k in range(3)
    ]
    return torch.sigmoid(parts[1]) * word + torch.sigmoid(parts[0]) * torch.tanh(parts[2])


def test_scores_of_a_post_by_the_equations(encoder: Path) -> None:
    given = spec_of(encoder, NAME)
    tagger, (posts, objects) = built(given, NAME), posts_of()
    assert isinstance(tagger, VgAtt)
    batch = batch_of(tagger, given.config, posts, objects)
    assert batch.object_mask.sum(1).tolist() == [3, 1, 2, 0], "cells alone: no objects of general words or phrases"
    emissions = tagger.emissions(batch)
    for row, post in enumerate(posts):
        words = vectors_of(tagger, post.words)
        context = seen(tagger, words, list(batch.objects[row][batch.object_mask[row]]))
        tuned = [modulated(tagger, word, context) for word in in_context(tagger, words)]
        torch.testing.assert_close(emissions[row, : post.n_words], scored(tagger, tuned), atol=1e-5, rtol=1e-4)


class TestKeeps(LearnsAll):
    name = NAME
