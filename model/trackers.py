"""Experiment trackers that show a training's epochs while it runs: DVCLive and TensorBoard, optional packages.

They are an option of the command (or FMIT_TRACKERS), not a parameter: whether DVC repeats a run is independent of them.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from schema.errors import ConfigError

if TYPE_CHECKING:
    from model.trainer import EpochResult

Log = Callable[[int, dict[str, float]], None]  # writes the metrics of an epoch
NOT_METRICS = ("epoch", "best")  # fields of EpochResult


def dvclive(folder: Path, stack: contextlib.ExitStack) -> Log:
    """Metrics in DVCLive's files; saves no experiment and writes no dvc.yaml, since the project has its own."""
    from dvclive import Live

    live = stack.enter_context(Live(str(folder), save_dvc_exp=False, dvcyaml=None))

    def log(epoch: int, metrics: dict[str, float]) -> None:
        live.step = epoch
        for name, value in metrics.items():
            live.log_metric(name, value)
        live.next_step()

    return log


def tensorboard(folder: Path, stack: contextlib.ExitStack) -> Log:
    """Scalars in one event file; removes the files of earlier trainings of the run."""
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    writer = stack.enter_context(SummaryWriter(str(folder)))

    def log(epoch: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, epoch)

    return log


TRACKERS = {"dvclive": dvclive, "tensorboard": tensorboard}


@contextlib.contextmanager
def open_trackers(names: Sequence[str], run: Path) -> "Iterator[Callable[[EpochResult], None]]":
    """One tracker for all of `names`, each with its folder in the run. It repeats the epochs of an interrupted call."""
    with contextlib.ExitStack() as stack:
        logs = []
        for name in dict.fromkeys(names):
            try:
                logs.append(TRACKERS[name](run / name, stack))
            except ImportError as error:
                todo = f"install the extra: pip install -e '.[{name}]'"
                raise ConfigError(f"the tracker {name} needs a package", found=f"no {error.name}", todo=todo) from None

        def track(result: "EpochResult") -> None:
            metrics = {name: float(value) for name, value in asdict(result).items() if name not in NOT_METRICS}
            for log in logs:
                log(result.epoch, metrics)

        yield track
