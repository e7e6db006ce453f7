"""Tensors from torch's files, and nothing else that a pickle may hold."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from schema.errors import WeightsError

DAMAGED = (  # what torch raises on junk, on other pickles, and on files cut short
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    struct.error,
)
REASONS = ("GLOBAL", "Unsupported", "magic number")  # in lines of torch's message that say what was met


def load_tensors(path: Path, allowed: Sequence[tuple[type, str]] = ()) -> Any:
    """What a `.pth` file holds, on the CPU, unpickled as tensors, numbers, text, lists and dicts only.

    `allowed`: classes that stand in for globals that the file may name. Raises WeightsError for a file that cannot be
    read, is damaged, or holds anything else; nothing of it has run then.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(allowed)):  # type: ignore[arg-type]
            warnings.simplefilter("ignore")  # of other pickle protocols; junk has any
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    except DAMAGED as error:
        found = "a web page" if path.read_bytes()[:64].lstrip()[:1] == b"<" else reason(error)
        todo = "take the publisher's file again; a pickle that holds more than tensors is not opened"
        raise WeightsError("refused: not tensors alone, or damaged", where=str(path), found=found, todo=todo) from None


def reason(error: Exception) -> str:
    """What a loader says was wrong, in one line, without torch's advice to unpickle everything."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = next((line for line in lines if any(reason in line for reason in REASONS)), "")
    text = told or next(iter(lines), "") or type(error).__name__
    return re.split(r"\. In PyTorch|\. Please|, we changed| by default", text)[0][:200]
