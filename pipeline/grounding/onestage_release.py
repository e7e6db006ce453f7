"""From the one-stage toolkit's released checkpoints (`.pth.tar`) to a folder that `onestage_paper` loads.

A checkpoint is a pickle of `epoch`, `best_loss`, `optimizer` and `state_dict`, whose names start with `module.`. It is
unpickled as tensors only; what else such a file holds (a score, as a number of NumPy's) is dropped unread.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache import atomic, keys, weights
from pipeline.grounding.onestage_names import ANCHORS, UNUSED, renamed, settings_of
from pipeline.grounding.onestage_paper import FILES, build
from pipeline.grounding.onestage_text import Corpus
from schema.errors import WeightsError
from vision.unpickle import load_tensors

SIZE_PX = 256  # of the toolkit's square input
PREFIX = "module."  # of torch's DataParallel
# The globals that a released file may name beside torch's own: the numbers of NumPy in a checkpoint, the toolkit's two
# classes in a word list. None of them is called: what stands in for them takes everything and does nothing.
NUMBERS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "_codecs.encode")
LISTS = ("utils.word_utils.Corpus", "utils.word_utils.Dictionary")


class _Dropped:
    """What an allowed global makes of a number: nothing."""

    def __init__(self, *args: Any) -> None:
        """Nothing is kept."""

    def __setstate__(self, state: Any) -> None:
        """Nothing is kept."""


class _Words:
    """The toolkit's `Corpus` or its `Dictionary`, as plain attributes."""


def convert(file: Path, out: Path, *, words: Path, trained_on: str = "", size_px: int = SIZE_PX) -> dict[str, Any]:
    """Write the folder `out`; returns its `config.json`.

    `words`: BERT's `vocab.txt` or its folder; for an LSTM the toolkit's `corpus.pth`, or its words line by line.
    `trained_on`: one of ANCHORS, "" for the one in the file's name. Raises WeightsError for a file of another layout,
    one that holds more than tensors, and words that are not the network's.
    """
    data = trained_on or _named(file)
    if data not in ANCHORS:
        todo = f"say what the weights were trained on, which decides the anchors: {', '.join(ANCHORS)}"
        raise WeightsError("the name of the file does not tell its anchors", where=str(file), found=data, todo=todo)
    state = read_state(file)
    try:
        settings = settings_of(state, data, size_px)
        tensors, used = renamed(state, settings)
    except KeyError as error:
        raise WeightsError("not the toolkit's layout", where=str(file), found=f"no tensor {error.args[0]}") from None
    strange = sorted(name for name in state.keys() - used if not UNUSED.match(name))
    if strange:
        found = f"{len(strange)} unknown tensor(s), {strange[0]} among them"
        raise WeightsError("not the toolkit's layout", where=str(file), found=found)
    _check(settings, tensors, file)
    settings |= {"trained_on": data, "released_sha256": keys.digest_file(file)}
    listed = _listed(words, settings)
    with atomic.folder(out) as new:
        weights.save_safetensors(new / "model.safetensors", tensors, {})
        (new / FILES[settings["text"]]).write_text("\n".join(listed) + "\n", encoding="utf-8")
        (new / "config.json").write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return settings


def read_state(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint's `state_dict`, by their names without `module.`."""
    found = load_tensors(file, [(_Dropped, name) for name in NUMBERS])
    state = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(one, Tensor) for one in state.values()):
        kind = f"keys {', '.join(map(str, list(found)[:4]))}" if isinstance(found, dict) else type(found).__name__
        raise WeightsError("no state_dict of tensors", where=str(file), found=kind)
    return {name.removeprefix(PREFIX): value for name, value in state.items()}


def read_words(file: Path) -> list[str]:
    """A word list: the toolkit's `corpus.pth`, or text of one word a line."""
    if file.suffix not in (".pth", ".pt", ".tar"):
        try:
            return file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise WeightsError(f"cannot read the words: {error}", where=str(file)) from None
    corpus = load_tensors(file, [(_Words, name) for name in LISTS])
    listed = getattr(getattr(corpus, "dictionary", None), "idx2word", None)
    if not isinstance(listed, list) or not all(isinstance(word, str) for word in listed):
        raise WeightsError("no word list of the toolkit", where=str(file), found=type(corpus).__name__)
    return listed


def _named(file: Path) -> str:
    """What of ANCHORS the file's name tells: the toolkit puts it there; RefCOCO's splits are unc, unc+ and gref."""
    parts = set(re.split(r"[^a-z]+", file.name.lower()))
    found = {one for one in ANCHORS if one in parts} | ({"refcoco"} if parts & {"unc", "gref"} else set())
    return found.pop() if len(found) == 1 else ""


def _listed(words: Path, settings: dict[str, Any]) -> list[str]:
    bert = settings["text"] == "bert"
    listed = read_words(words / FILES["bert"] if words.is_dir() else words)
    n_words = settings["text_sizes"]["vocab_size" if bert else "n_words"]
    if len(listed) != n_words:
        todo = "give the words that the weights were trained with"
        raise WeightsError(f"{len(listed)} words for {n_words} vectors", where=str(words), todo=todo)
    if not bert:
        Corpus(listed)
    return listed


def _check(settings: dict[str, Any], tensors: dict[str, np.ndarray], file: Path) -> None:
    """Raise WeightsError where a tensor has not the shape that its place asks for, or one is not finite."""
    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in build(settings).state_dict().items()}
    wrong = sorted(
        name for name in wanted.keys() | tensors.keys() if wanted.get(name) != getattr(tensors.get(name), "shape", None)
    )
    wrong += sorted(name for name, value in tensors.items() if not np.isfinite(value).all())
    if wrong:
        found = f"{len(wrong)} tensor(s) lacking, of another shape or not finite, {wrong[0]} among them"
        raise WeightsError("not the toolkit's layout", where=str(file), found=found)
