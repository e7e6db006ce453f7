"""Whether a run is what training would make today: settings, seed, data, and the files that its words start from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from cache import keys
from cache.runs import run_config
from model.checkpoint import is_whole
from model.config import TrainConfig
from model.encoders import find_encoder
from schema.errors import RunError, WeightsError


def is_made_of(run: Path, config: TrainConfig, seed: int, digests: Mapping[str, str]) -> bool:
    """Whether a whole run is in `run`, trained with `config` and `seed` on data with these `digests`.

    Damaged runs and those of another layout are not: training makes them anew. A file of word vectors or an encoder
    that is no longer on this machine is not compared.
    """
    if not is_whole(run / "model"):
        return False
    try:
        then = run_config(run)
    except RunError:
        return False
    now = {**digests, **_starts(config, then["inputs"])}
    same = {name: then["inputs"].get(name) for name in now} == now
    return same and then["config"] == json.loads(config.model_dump_json()) and then["seed"] == seed


def _starts(config: TrainConfig, inputs: Mapping[str, str]) -> dict[str, str]:
    """Today's digests of the files that a run with these `inputs` started from, of those that are here."""
    found = {}
    words, folder = Path(config.words), Path(config.encoder).expanduser()
    if "words" in inputs and words.is_file():
        found["words"] = _digest(words, _stamp(words))
    if "encoder" in inputs and not config.encoder_digest:  # a pinned one is checked where it is read
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        with contextlib.suppress(WeightsError):
            found["encoder"] = _encoder(config.encoder, config.encoder_revision, tuple(map(_stamp, files)))
    return found


def _stamp(path: Path) -> tuple[str, int, int]:
    """What tells that a file was changed, without reading it."""
    found = path.stat()
    return path.name, found.st_size, found.st_mtime_ns


@lru_cache
def _digest(path: Path, stamp: tuple[str, int, int]) -> str:
    """Of a file that may have gigabytes: taken once in a process, while its stamp stays."""
    return keys.digest_file(path)


@lru_cache
def _encoder(name: str, revision: str, stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Of an encoder's weights, in the same way."""
    return find_encoder(TrainConfig(encoder=name, encoder_revision=revision)).digest
