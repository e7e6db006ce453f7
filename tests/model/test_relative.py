"""R of Eq. 9 by tables against R pair by pair."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model import interaction
from model.interaction import Sinusoids, look_up, relative_rows, sinusoid, tables_of
from tests.model import oracle

DIM, N_TEXT = 6, 5


def position_table(n_text: int) -> Tensor:
    return sinusoid(torch.arange(1 - n_text, n_text), DIM)


SPANS = torch.tensor([[[1, 3], [2, 2], [0, 4]], [[1, 1], [3, 1], [0, 0]]])


@pytest.fixture(params=[2048, 2])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interaction, "LOOK_UP_ROWS", request.param)


@pytest.mark.usefixtures("_chunks")
def test_every_pair_equals_eq_9() -> None:
    torch.manual_seed(0)
    weight = torch.randn(DIM, 4 * DIM, dtype=torch.float64)
    words, blocks = tables_of(weight, position_table(N_TEXT), with_objects=True)
    found = relative_rows(blocks, SPANS, of_objects=True, dtype=torch.float64)
    assert found.word_object is not None
    assert found.object_word is not None
    assert found.object_object is not None
    for post, spans in enumerate(SPANS.tolist()):
        cells = [(t, t) for t in range(N_TEXT)] + [(head, tail) for head, tail in spans]
        expected = torch.stack([torch.stack(row) for row in oracle.relative({"position.weight": weight}, cells)])
        for i in range(N_TEXT):
            torch.testing.assert_close(words[[N_TEXT - 1 - i + j for j in range(N_TEXT)]], expected[i, :N_TEXT])
        text, objects = slice(post * N_TEXT, (post + 1) * N_TEXT), slice(post * 3, (post + 1) * 3)
        torch.testing.assert_close(found.word_object[text], expected[:N_TEXT, N_TEXT:])
        torch.testing.assert_close(found.object_word[objects], expected[N_TEXT:, :N_TEXT])
        torch.testing.assert_close(found.object_object[objects], expected[N_TEXT:, N_TEXT:])


def test_computes_only_what_is_needed() -> None:
    weight, sinusoids = torch.randn(DIM, 4 * DIM, dtype=torch.float64), position_table(N_TEXT)
    words, blocks = tables_of(weight, sinusoids, with_objects=True)
    text_words, no_blocks = tables_of(weight, sinusoids, with_objects=False)
    torch.testing.assert_close(text_words, words)
    assert relative_rows(no_blocks, SPANS[:, :0], True, torch.float64) == (None, None, None)
    assert relative_rows(blocks, SPANS, False, torch.float64)[1:] == (None, None)
    low = relative_rows(blocks, SPANS, False, torch.bfloat16).word_object
    assert low is not None
    assert low.dtype == torch.bfloat16


@pytest.mark.usefixtures("_chunks")
def test_look_up_and_its_gradient() -> None:
    torch.manual_seed(0)
    tables = [torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    indices = [torch.randint(4, (2, 5)) for _ in range(3)]
    found = look_up(tables, indices, torch.float64)
    expected = torch.relu(sum(table[index] for table, index in zip(tables, indices, strict=True))).flatten(0, 1)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), tables),
        torch.autograd.grad((expected * weights).sum(), tables),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_sinusoids_are_cached_and_grow() -> None:
    sinusoids = Sinusoids(DIM)
    long = sinusoids(9, torch.float64, torch.device("cpu"))
    short = sinusoids(4, torch.float64, torch.device("cpu"))
    assert short.data_ptr() == long[5:].data_ptr()  # the middle of the cached table
    assert torch.equal(short, position_table(4))
    assert torch.equal(sinusoids(12, torch.float64, torch.device("cpu")), position_table(12))
    assert torch.equal(sinusoids(3, torch.float32, torch.device("cpu")), position_table(3).float())
