"""A batch: what a step needs as tensors, checked once when it is made.

Letters: B posts, T text cells ([CLS], words, [SEP]), N = T - 2 words, M objects, D the pack's feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from schema.errors import DataError


@dataclass(frozen=True)
class Batch:
    """Posts padded to a common length; masks are True where something is real.

    Padding holds zeros, tag 0 (`O`) and span (0, 0); every post has at least one word, and its real cells come first.
    """

    rows: tuple[int, ...]  # the posts' places in their dataset
    inputs: Mapping[str, Tensor]  # of the approach's featurizer
    text_mask: Tensor  # [B, T] bool
    objects: Tensor  # [B, M, D] the pack's dtype
    spans: Tensor  # [B, M, 2] int64: head and tail
    object_mask: Tensor  # [B, M] bool
    tags: Tensor | None = None  # [B, N] int64
    boundaries: Tensor | None = None  # [B, N] int64: Z of Section 3.3
    crops: Tensor | None = None  # [C, 3, S, S] uint8, each distinct one once: then `objects` is [B, M, 0]
    crop_index: Tensor | None = None  # [B, M] int64: the crop of each object, -1: none

    def __post_init__(self) -> None:
        n_posts, n_cells = self.text_mask.shape
        n_objects = self.object_mask.shape[1]
        shapes: dict[str, tuple[int, ...]] = {
            "objects": (n_posts, n_objects, self.objects.shape[-1]),
            "spans": (n_posts, n_objects, 2),
            "object_mask": (n_posts, n_objects),
            "tags": (n_posts, n_cells - 2),
            "boundaries": (n_posts, n_cells - 2),
            "crop_index": (n_posts, n_objects),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise DataError(f"batch: {name} should be {shape}", found=str(tuple(value.shape)))
        if len(self.rows) != n_posts or not bool(self.text_mask[:, :3].all()):
            raise DataError("batch: every post needs its row and at least one word")
        lengths = self.text_mask.sum(1)
        if not torch.equal(self.text_mask, torch.arange(n_cells) < lengths[:, None]):
            raise DataError("batch: padding must come behind the real cells")
        head, tail = self.spans.unbind(-1)
        inside = (head >= 0) & (head <= tail) & (tail < lengths[:, None])
        if not bool((inside | ~self.object_mask).all()):
            raise DataError("batch: a span leaves its post", todo="make the pack from these posts again")

    @property
    def word_mask(self) -> Tensor:
        """[B, N] bool: True at the words, which are cells 1..n."""
        return self.text_mask[:, 2:]

    @property
    def gold(self) -> tuple[Tensor, Tensor]:
        """Tags Y and boundary labels Z, each [B, N] int64; DataError for posts without labels."""
        if self.tags is None or self.boundaries is None:
            raise DataError("batch: a loss needs labelled posts")
        return self.tags, self.boundaries

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device, not checked again: a check there would wait for the device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """DataLoader calls this, so that copies to a GPU overlap with its work."""
        return self._mapped(Tensor.pin_memory)

    def with_objects(self, features: Tensor) -> Batch:
        """The batch with features [B, M, D] in place of `objects`, not checked again."""
        changed = self._mapped(lambda tensor: tensor)
        object.__setattr__(changed, "objects", features)
        return changed

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        moved = object.__new__(Batch)
        for field in fields(self):
            object.__setattr__(moved, field.name, _apply(getattr(self, field.name), change))
        return moved


def _apply(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: change(tensor) for name, tensor in value.items()}
    return value
