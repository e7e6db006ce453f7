"""Experiment trackers that show a training's epochs while it runs: DVCLive and TensorBoard, optional packages.

They are an option of the command, not a parameter: a run's name, and whether DVC repeats it, do not depend on them.
The environment variable FMIT_TRACKERS sets the option when DVC runs the command.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from schema.errors import ConfigError

if TYPE_CHECKING:
    from model.trainer import EpochResult


Tracker = Callable[["EpochResult"], None]
NOT_METRICS = ("epoch", "best")  # fields of EpochResult


@contextlib.contextmanager
def dvclive(folder: Path) -> Iterator[Tracker]:
    """Metrics in DVCLive's files; saves no experiment and writes no dvc.yaml, since the project has its own."""
    from dvclive import Live

    with Live(str(folder), save_dvc_exp=False, dvcyaml=None) as live:

        def log(result: EpochResult) -> None:
            live.step = result.epoch
            for name, value in values(result).items():
                live.log_metric(name, value)
            live.next_step()

        yield log


@contextlib.contextmanager
def tensorboard(folder: Path) -> Iterator[Tracker]:
    """Scalars in one event file; removes the files of earlier trainings of the run."""
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(str(folder)) as writer:

        def log(result: EpochResult) -> None:
            for name, value in values(result).items():
                writer.add_scalar(name, value, result.epoch)

        yield log


TRACKERS = {"dvclive": dvclive, "tensorboard": tensorboard}


@contextlib.contextmanager
def open_trackers(names: Sequence[str], run: Path) -> Iterator[Tracker]:
    """One tracker for all of `names`, each writing to the folder of its name in the run.

    The epochs of an interrupted call are repeated, so each holds the whole training. Raises ConfigError if a package is
    missing.
    """
    with contextlib.ExitStack() as stack:
        trackers = []
        for name in dict.fromkeys(names):
            try:
                trackers.append(stack.enter_context(TRACKERS[name](run / name)))
            except ImportError as error:
                todo = f"install the extra: pip install -e '.[{name}]'"
                raise ConfigError(f"the tracker {name} needs a package", found=f"no {error.name}", todo=todo) from None

        def log(result: EpochResult) -> None:
            for tracker in trackers:
                tracker(result)

        yield log


def values(result: EpochResult) -> dict[str, float]:
    """The metrics of an epoch by name."""
    return {name: float(value) for name, value in asdict(result).items() if name not in NOT_METRICS}
