"""Tensors from files of weights, and nothing else that a pickle may hold."""

import pickle
import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from schema.errors import WeightsError

DAMAGED = (  # what torch raises on junk, on other pickles, and on files cut short
    pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, struct.error
)  # fmt: skip
REASONS = ("GLOBAL", "Unsupported", "magic number")  # in lines of torch's message that give the reason


def load_tensors(path: Path, allowed: Sequence[tuple[type, str]] = ()) -> Any:
    """The content of a `.pth` file, on the CPU, unpickled as tensors, numbers, text, lists and dicts only.

    `allowed`: classes that replace globals that the file may name. Raises WeightsError for a file that cannot be read,
    is damaged, or holds anything else; none of its code has run then.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(allowed)):  # type: ignore[arg-type]
            warnings.simplefilter("ignore")  # of other pickle protocols; junk has any
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    except DAMAGED as error:
        found = "a web page" if path.read_bytes()[:64].lstrip()[:1] == b"<" else reason(error)
        what = "rejected: the file is damaged or contains more than tensors"
        raise WeightsError(what, where=str(path), found=found, todo="download the publisher's file again") from None


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` state dict (unpickled as tensors only) or a safetensors file."""
    try:
        state = safetensors.torch.load_file(path) if path.suffix == ".safetensors" else load_tensors(path)
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    except (safetensors.SafetensorError, ValueError) as error:
        todo = "download the file again, or convert it to safetensors"
        raise WeightsError("not a safetensors file, or damaged", where=str(path), found=str(error), todo=todo) from None
    if isinstance(state, dict) and all(type(key) is str and isinstance(value, Tensor) for key, value in state.items()):
        return state
    found = f"keys {', '.join(map(str, list(state)[:4]))}" if isinstance(state, dict) else type(state).__name__
    todo = "save only the network's state_dict()"
    raise WeightsError("not a state dict of tensors", where=str(path), found=found, todo=todo)


def load_state(network: nn.Module, state: Mapping[str, Tensor], name: str, path: Path) -> None:
    """Put a file's tensors into a network, in float32, frozen and in evaluation mode.

    The network may be on torch's meta device. Raises WeightsError where they are not those of the network `name`.
    """
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        found = str(error).splitlines()[1].strip()[:200]
        raise WeightsError(f"not the weights of {name}", where=str(path), found=found) from None
    network.float().eval().requires_grad_(False)


def resolve_device(name: str) -> str:
    """The device of a setting: for auto a GPU if there is one."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def reason(error: Exception) -> str:
    """The loader's error in one line, without torch's hint to set weights_only=False."""
    lines = [line.strip() for line in str(error).splitlines()]
    text = next((line for line in lines if any(word in line for word in REASONS)), lines[0] if lines else "")
    return re.split(r"\. In PyTorch|\. Please|, we changed| by default", text or type(error).__name__)[0][:200]
