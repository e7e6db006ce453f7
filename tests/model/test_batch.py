"""A batch is checked once, and moves to a device without another check."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from model.data import Batch
from schema.errors import DataError


def make(**changes: Any) -> Batch:
    """Posts of 2 words and 1 word; 2 objects and 1."""
    values: dict[str, Any] = {
        "rows": (4, 7),
        "inputs": {"pieces": torch.arange(8).reshape(2, 4)},
        "text_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]).bool(),
        "objects": torch.zeros(2, 2, 5),
        "spans": torch.tensor([[[1, 2], [2, 2]], [[1, 1], [0, 0]]]),
        "object_mask": torch.tensor([[1, 1], [1, 0]]).bool(),
        "tags": torch.zeros(2, 2, dtype=torch.int64),
        "boundaries": None,
    }
    return Batch(**{**values, **changes}).checked()


def test_words_are_cells_one_to_n() -> None:
    batch = make()
    assert len(batch) == 2
    assert batch.word_mask.tolist() == [[True, True], [True, False]]


def test_a_batch_may_have_no_object() -> None:
    empty = torch.zeros(2, 0, 2, dtype=torch.int64)
    assert make(objects=torch.zeros(2, 0, 5), spans=empty, object_mask=torch.zeros(2, 0).bool()).objects.shape[1] == 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"tags": torch.zeros(2, 4, dtype=torch.int64)}, r"tags should be \(2, 2\)"),
        ({"objects": torch.zeros(2, 3, 5)}, r"objects should be \(2, 2, 5\)"),
        ({"rows": (4,)}, "needs a row"),
        ({"text_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()}, "at least one word"),
        ({"spans": torch.tensor([[[1, 2], [2, 4]], [[1, 1], [0, 0]]])}, "a span lies outside its post"),
        ({"spans": torch.tensor([[[1, 2], [2, 1]], [[1, 1], [0, 0]]])}, "a span lies outside its post"),
        ({"spans": torch.tensor([[[1, 2], [2, 2]], [[1, 3], [0, 0]]])}, "a span lies outside its post"),
    ],
)
def test_refuses(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        make(**changes)


def test_padding_comes_last() -> None:
    holed = torch.tensor([[1, 1, 1, 0, 1], [1, 1, 1, 1, 1]]).bool()
    with pytest.raises(DataError, match="after the real cells"):
        make(text_mask=holed, tags=torch.zeros(2, 3, dtype=torch.int64))


def test_moves_every_tensor_and_keeps_the_rest() -> None:
    batch = make()
    moved = batch.to("meta")
    assert moved.rows == batch.rows
    assert moved.boundaries is None
    tensors = [moved.text_mask, moved.objects, moved.spans, moved.object_mask, moved.tags, moved.inputs["pieces"]]
    assert all(isinstance(tensor, torch.Tensor) and tensor.device.type == "meta" for tensor in tensors)
