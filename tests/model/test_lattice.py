"""Positions and distances of a lattice drawn by hand."""

from __future__ import annotations

import math

import pytest
import torch

from model import interaction
from schema.errors import DataError
from schema.lattice import object_span
from schema.records import Region, Span

#  position:  0     1      2     3     4    5
#             [CLS] Oscar  rides a     bike [SEP]
#  objects:   whole image 1..4, "person" 1..4, "Oscar" 1..1, "a bike" 3..4
N_WORDS = 4
REGIONS = [
    Region("image", "", None, None, 1.0),
    Region("general", "person", None, None, 0.5),
    Region("phrase", "Oscar", Span(0, 1), None, 0.9),
    Region("phrase", "a bike", Span(2, 4), None, 0.8),
]


def test_objects_stand_at_their_words() -> None:
    assert [object_span(one.span, N_WORDS) for one in REGIONS] == [(1, 4), (1, 4), (1, 1), (3, 4)]


def test_a_span_beyond_the_post_is_an_error() -> None:
    with pytest.raises(
        DataError, match=r"words that the post does not have \(found Span\(start=2, end=5\) of 4 words\)"
    ):
        object_span(Span(2, 5), N_WORDS)


def test_distances_are_those_of_eq_3_to_6() -> None:
    words, bike = torch.tensor([[0, 0], [2, 2], [4, 4]]), torch.tensor([[3, 4]])
    hh, ht, th, tt = interaction.distances(words, bike)
    assert hh.tolist() == [[-3], [-1], [1]]
    assert ht.tolist() == [[-4], [-2], [0]]
    assert torch.equal(th, hh)  # a word's head is its tail
    assert torch.equal(tt, ht)
    turned = [part.squeeze().tolist() for part in interaction.distances(bike, torch.tensor([[1, 4]]))]
    assert turned == [2, -1, 3, 0]
    assert interaction.distances(words.expand(5, 3, 2), bike.expand(5, 1, 2))[0].shape == (5, 3, 1)


def test_sinusoids_are_those_of_eq_7_and_8() -> None:
    found = interaction.sinusoid(torch.tensor([-7, 0, 3]), 6)
    assert found.dtype == torch.float64
    for row, position in enumerate([-7, 0, 3]):
        for k in range(3):
            angle = position / 10000 ** (2 * k / 6)
            assert found[row, 2 * k].item() == pytest.approx(math.sin(angle), abs=1e-15)
            assert found[row, 2 * k + 1].item() == pytest.approx(math.cos(angle), abs=1e-15)
    assert (
        interaction.sinusoid(torch.tensor([2]), 5).tolist()
        == interaction.sinusoid(torch.tensor([2]), 5)[:, :5].tolist()
    )
    assert interaction.sinusoid(torch.tensor([[2]]), 5).shape == (1, 1, 5)


def test_the_table_goes_from_the_most_negative_distance_up() -> None:
    table = interaction.Sinusoids(8)(4, torch.float64, torch.device("cpu"))
    assert table.shape == (7, 8)
    assert torch.equal(table, interaction.sinusoid(torch.tensor([-3, -2, -1, 0, 1, 2, 3]), 8))
