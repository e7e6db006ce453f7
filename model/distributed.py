"""Processes that train one model together (`accelerate launch` or torchrun), and the one process that trains alone.

Parameters decide a run's numbers, not how many processes there are: each batch of the sampler is dealt out, gradients
are summed before they are clipped, so a step is the step of one process to the rounding of sums. Only dropout and
the like are drawn per process. Without a launcher nothing here calls accelerate, and nothing is summed.
"""

from __future__ import annotations

import atexit
import datetime
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
BUCKET = 2**25  # numbers summed across processes at once: 128 MB of float32
TIMEOUT = datetime.timedelta(hours=4)  # others wait while the first process scores dev and publishes


@dataclass(frozen=True)
class ProcessGroup:
    """Which of how many processes this one is, and the device it computes on."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process saves, scores and publishes."""
        return self.rank == 0

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        """This process's part of a batch; empty where there are fewer rows than processes."""
        return rows[self.rank :: self.size]

    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes."""
        if self.size > 1:
            from accelerate.utils import reduce

            tensor.copy_(reduce(tensor, "sum"))

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their sums; a process without posts in a step adds zeros."""
        if self.size == 1:
            return
        gradients = []
        for parameter in parameters:
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            self.sum(flat)
            parts = flat.split([gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def from_first(self, compute: Callable[[], T]) -> T:
        """What `compute` gives in the first process, in every process; the others only wait for it."""
        if self.size == 1:
            return compute()
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([compute() if self.first else None])[0]  # type: ignore[return-value]

    def wait(self) -> None:
        """Until every process is here."""
        self.from_first(lambda: None)


def join(device: torch.device) -> ProcessGroup:
    """The processes that a launcher started for this command, each with a GPU of its own where `device` is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ProcessGroup(device)
    from accelerate import PartialState

    is_new = not torch.distributed.is_initialized()
    state = PartialState(cpu=device.type == "cpu", timeout=TIMEOUT)
    if is_new:
        atexit.register(state.destroy_process_group)
    return ProcessGroup(state.device, state.process_index, state.num_processes)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, at most BUCKET numbers of one dtype together; a larger one goes alone."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        full = sum(one.numel() for one in bucket) + tensor.numel() > BUCKET
        if bucket and (full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
