"""CNN-BiLSTM-CRF: characters by plain loops, a post's scores by its parts, and what every approach has to keep."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from model.baselines.recurrent import CharCNN, CnnBiLSTMCRF
from tests.model.baselines.contract import Keeps, batch_of, built, posts_of, spec_of

NAME = "cnn-bilstm-crf"


@torch.no_grad()
def spelled(cnn: CharCNN, ids: list[int]) -> Tensor:
    """One word's vector, window by window."""
    vectors = [torch.zeros(30), *(cnn.characters.weight[one] for one in ids), torch.zeros(30)]
    best = torch.full((30,), -torch.inf)
    for i in range(len(ids)):
        value = cnn.filters.bias + sum(cnn.filters.weight[:, :, j] @ vectors[i + j] for j in range(3))
        best = torch.maximum(best, value)
    return torch.tanh(best)


@torch.no_grad()
def test_characters_by_plain_loops() -> None:
    torch.manual_seed(0)
    cnn = CharCNN(9, 0.5).eval()
    torch.nn.init.normal_(cnn.filters.bias)
    words = [[3, 4, 5, 8], [2], [7, 7]]
    padded = torch.tensor([[*word, *[0] * (4 - len(word))] for word in words])
    found = cnn(padded, torch.tensor([4, 1, 2]))
    torch.testing.assert_close(found, torch.stack([spelled(cnn, word) for word in words]))


@torch.no_grad()
def test_scores_of_a_post_by_its_parts(encoder: Path) -> None:
    given = spec_of(encoder, NAME)
    tagger, (posts, objects) = built(given, NAME), posts_of()
    assert isinstance(tagger, CnnBiLSTMCRF)
    emissions = tagger.emissions(batch_of(tagger, given.config, posts, objects))
    for row, post in enumerate(posts):
        code = tagger.words.vocabulary.encode(post.words)
        words = [
            torch.cat([tagger.words.learned.weight[at], spelled(tagger.spelling, list(ids))])
            for at, ids in zip(code.rows, code.characters, strict=True)
        ]
        ahead = tagger.context.forward_lstm(torch.stack(words)[None])[0][0]
        behind = tagger.context.backward_lstm(torch.stack(words[::-1])[None])[0][0].flip(0)
        expected = torch.cat([ahead, behind], 1) @ tagger.tag.weight.T + tagger.tag.bias
        torch.testing.assert_close(emissions[row, : post.n_words], expected, atol=1e-5, rtol=1e-4)


def test_sizes_are_the_papers(encoder: Path) -> None:
    tagger = built(spec_of(encoder, NAME), NAME)
    assert isinstance(tagger, CnnBiLSTMCRF)
    assert (tagger.spelling.dim, tagger.context.dim, tagger.dropout.p) == (30, 400, 0.5)
    assert spec_of(encoder, NAME).config.clip == 5.0


class TestKeeps(Keeps):
    name = NAME
