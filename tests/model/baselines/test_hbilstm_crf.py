"""HBiLSTM-CRF: characters by an LSTM written out, a post's scores by its parts, and what every approach has to keep."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from model.baselines.recurrent import CharBiLSTM, HBiLSTMCRF
from tests.model.baselines.contract import Keeps, batch_of, built, posts_of, spec_of

NAME = "hbilstm-crf"


@torch.no_grad()
def states(lstm: nn.LSTM, inputs: list[Tensor]) -> list[Tensor]:
    """An LSTM's states, gate by gate."""
    width = lstm.hidden_size
    state = cell = torch.zeros(width)
    found = []
    for one in inputs:
        gates = lstm.weight_ih_l0 @ one + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ state + lstm.bias_hh_l0
        enter, keep, new, out = gates.split(width)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(new)
        state = torch.sigmoid(out) * torch.tanh(cell)
        found.append(state)
    return found


@torch.no_grad()
def spelled(spelling: CharBiLSTM, ids: tuple[int, ...]) -> Tensor:
    letters = [spelling.characters.weight[one] for one in ids]
    ends = states(spelling.lstm.forward_lstm, letters)[-1], states(spelling.lstm.backward_lstm, letters[::-1])[-1]
    return torch.cat(ends)


@torch.no_grad()
def in_context(tagger: HBiLSTMCRF, words: list[Tensor]) -> list[Tensor]:
    ahead = states(tagger.context.forward_lstm, words)
    behind = states(tagger.context.backward_lstm, words[::-1])[::-1]
    return [torch.cat(pair) for pair in zip(ahead, behind, strict=True)]


@torch.no_grad()
def vectors_of(tagger: HBiLSTMCRF, words: tuple[str, ...]) -> list[Tensor]:
    code = tagger.words.vocabulary.encode(words)
    return [
        torch.cat([tagger.words.learned.weight[row], spelled(tagger.spelling, ids)])
        for row, ids in zip(code.rows, code.characters, strict=True)
    ]


@torch.no_grad()
def scored(tagger: HBiLSTMCRF, contexts: list[Tensor]) -> Tensor:
    hidden = [torch.tanh(tagger.hidden.weight @ one + tagger.hidden.bias) for one in contexts]
    return torch.stack([tagger.tag.weight @ one + tagger.tag.bias for one in hidden])


def test_scores_of_a_post_by_its_parts(encoder: Path) -> None:
    given = spec_of(encoder, NAME)
    tagger, (posts, objects) = built(given, NAME), posts_of()
    assert isinstance(tagger, HBiLSTMCRF)
    emissions = tagger.emissions(batch_of(tagger, given.config, posts, objects))
    for row, post in enumerate(posts):
        expected = scored(tagger, in_context(tagger, vectors_of(tagger, post.words)))
        torch.testing.assert_close(emissions[row, : post.n_words], expected, atol=1e-5, rtol=1e-4)


def test_sizes_are_the_papers(encoder: Path) -> None:
    tagger = built(spec_of(encoder, NAME), NAME)
    assert isinstance(tagger, HBiLSTMCRF)
    assert (tagger.spelling.dim, tagger.context.dim, tagger.hidden.out_features, tagger.dropout.p) == (
        50,
        200,
        100,
        0.5,
    )


class TestKeeps(Keeps):
    name = NAME
