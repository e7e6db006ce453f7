"""Forward passes whose rows are the same in any company: one shape, no gradients, exact products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def filled(rows: Tensor, n_rows: int) -> Tensor:
    """Rows up to n_rows, the missing ones repeating the first: a pass has one shape."""
    return torch.cat([rows, rows[:1].expand(n_rows - len(rows), *rows.shape[1:])])


@contextmanager
def exact() -> Iterator[None]:
    """No gradients; on a GPU no TF32 and no kernels chosen by the clock: rows must not depend on card and day."""
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
    ):
        yield
