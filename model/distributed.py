"""The processes that train one model together (`accelerate launch` or torchrun).

The parameters decide a run's numbers, not the number of processes: each batch is split among the processes, and
gradients are summed before they are clipped, so a step equals that of one process up to rounding. Only dropout and the
like are drawn per process. Without a launcher nothing here calls accelerate, and nothing is summed.
"""

import atexit
import datetime
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

T = TypeVar("T")
TIMEOUT = datetime.timedelta(hours=4)  # others wait while the first process scores dev and publishes


@dataclass(frozen=True)
class ProcessGroup:
    """The rank of this process, the number of processes, and the device it computes on."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process saves, scores and publishes."""
        return self.rank == 0

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        """This process's part of a batch; empty if there are fewer rows than processes."""
        return rows[self.rank :: self.size]

    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their sums; a process without posts in a step adds zeros."""
        for parameter in parameters:
            if parameter.requires_grad and self.size > 1:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                self.sum(parameter.grad)

    def from_first(self, compute: Callable[[], T]) -> T:
        """The result of `compute` in the first process, returned in every process; the others only wait."""
        if self.size == 1:
            return compute()
        results = [compute() if self.first else None]
        torch.distributed.broadcast_object_list(results)
        return cast(T, results[0])


def join(device: torch.device) -> ProcessGroup:
    """The process group that a launcher started for this command; each process has its own GPU if `device` is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ProcessGroup(device)
    from accelerate import PartialState

    is_new = not torch.distributed.is_initialized()
    state = PartialState(cpu=device.type == "cpu", timeout=TIMEOUT)
    if is_new:
        atexit.register(state.destroy_process_group)
    return ProcessGroup(state.device, state.process_index, state.num_processes)
