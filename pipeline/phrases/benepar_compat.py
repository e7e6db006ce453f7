"""Compatibility of benepar 0.2.0 with transformers 5.

benepar relies on two things that transformers removed. Its retokenizer calls `build_inputs_with_special_tokens`, which
fast tokenizers no longer have. State dicts of its released models contain tensors that transformers no longer keeps
(`position_ids`, T5's relative bias in cross-attention), so a strict load fails. This module adds the method to the
tokenizer instance and leaves out exactly those tensors.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers
from benepar import nkutil, parse_chart, retokenization

from schema.errors import WeightsError
from vision.torch_files import load_tensors

REFUSED = "no benepar model that can be loaded"
OBSOLETE = (".position_ids", ".EncDecAttention.relative_attention_bias.weight")


def load_chart_parser(path: Path) -> parse_chart.ChartParser:
    """A benepar model from its release folder (config.json, benepar_model.bin, tokenizer) or its one-file checkpoint.

    Pickles are read with `weights_only`. Raises WeightsError for another layout.
    """
    try:
        config, state = _read(path)
        with _compatible_tokenizers():
            parser = parse_chart.ChartParser(**config)
        parser.load_state_dict(_kept(state, parser.state_dict()))
    except WeightsError as error:
        found = f"{error.what}: {error.found}" if error.found else error.what
        raise WeightsError(REFUSED, where=str(path), found=found, todo=error.todo) from None
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(REFUSED, where=str(path), found=str(error)) from None
    return parser.eval()


def _read(path: Path) -> tuple[dict[str, Any], Mapping[str, torch.Tensor]]:
    if path.is_dir():
        config = dict(transformers.AutoConfig.from_pretrained(path).benepar)
        state = load_tensors(path / "benepar_model.bin")
        config["pretrained_model_path"] = str(path)
    else:
        data = load_tensors(path)
        config, state = dict(data["config"]), data["state_dict"]
    hparams = {"force_root_constituent": True, **config["hparams"]}  # older models do not say it
    return {**config, "hparams": nkutil.HParams(**hparams)}, state


def _kept(state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if name in wanted or not name.endswith(OBSOLETE)}


@contextmanager
def _compatible_tokenizers() -> Iterator[None]:
    """Within: tokenizers that benepar's retokenizer makes can build inputs with special tokens."""

    def from_pretrained(*args: Any, **kwargs: Any) -> Any:
        return with_special_tokens(transformers.AutoTokenizer.from_pretrained(*args, **kwargs))

    made = types.SimpleNamespace(AutoTokenizer=types.SimpleNamespace(from_pretrained=from_pretrained))
    with mock.patch.object(retokenization, "transformers", made):
        yield


def with_special_tokens(tokenizer: Any) -> Any:
    """The tokenizer with `build_inputs_with_special_tokens(ids)`: the ids between its own prefix and suffix."""
    if hasattr(tokenizer, "build_inputs_with_special_tokens"):
        return tokenizer
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    starts = [at for at in range(len(whole) - len(bare) + 1) if whole[at : at + len(bare)] == bare]
    prefix, suffix = whole[: starts[0]], whole[starts[0] + len(bare) :]
    tokenizer.build_inputs_with_special_tokens = lambda ids: prefix + list(ids) + suffix
    return tokenizer
