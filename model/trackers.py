"""Where a training's epochs are shown while it runs, besides its own curves: DVCLive and TensorBoard, each an extra.

An option of the command and no parameter: what a run is called, and whether DVC runs it again, does not depend on who
watches. `FMIT_SINKS` says the same where DVC gives the command.
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


Sink = Callable[["EpochResult"], None]
PLACES = ("epoch", "best")  # of a result: the others are values


@contextlib.contextmanager
def dvclive(folder: Path) -> Iterator[Sink]:
    """Metrics in DVCLive's files; no experiment is saved and no dvc.yaml written: the project has its own."""
    from dvclive import Live

    with Live(str(folder), save_dvc_exp=False, dvcyaml=None) as live:

        def log(result: EpochResult) -> None:
            live.step = result.epoch
            for name, value in values(result).items():
                live.log_metric(name, value)
            live.next_step()

        yield log


@contextlib.contextmanager
def tensorboard(folder: Path) -> Iterator[Sink]:
    """Scalars in one event file; files of earlier trainings of the run are removed."""
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(str(folder)) as writer:

        def log(result: EpochResult) -> None:
            for name, value in values(result).items():
                writer.add_scalar(name, value, result.epoch)

        yield log


SINKS = {"dvclive": dvclive, "tensorboard": tensorboard}


@contextlib.contextmanager
def opened(names: Sequence[str], run: Path) -> Iterator[Sink]:
    """One sink for all that are named, each in the run's folder of its name; ConfigError where its package is missing.

    Epochs of an interrupted call come again, so each holds the whole training.
    """
    with contextlib.ExitStack() as stack:
        sinks = []
        for name in dict.fromkeys(names):
            try:
                sinks.append(stack.enter_context(SINKS[name](run / name)))
            except ImportError as error:
                todo = f"install the extra: pip install -e '.[{name}]'"
                raise ConfigError(f"--sink {name} needs a package", found=f"no {error.name}", todo=todo) from None

        def log(result: EpochResult) -> None:
            for sink in sinks:
                sink(result)

        yield log


def values(result: EpochResult) -> dict[str, float]:
    """What an epoch measured, by name."""
    return {name: float(value) for name, value in asdict(result).items() if name not in PLACES}
