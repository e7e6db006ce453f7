"""Compatibility of benepar 0.2.0 with transformers 5.

benepar relies on two things that transformers removed. Its retokenizer calls `build_inputs_with_special_tokens`, which
fast tokenizers no longer have. State dicts of its released models contain tensors that transformers no longer uses
(`position_ids`, T5's relative bias in cross-attention), so a strict load fails. This module adds the method to the
tokenizer instance and leaves out exactly those tensors.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers
from benepar import nkutil, parse_chart, retokenization

from schema.errors import WeightsError
from vision.torch_files import load_tensors

OBSOLETE = (".position_ids", ".EncDecAttention.relative_attention_bias.weight")


def load_chart_parser(path: Path) -> parse_chart.ChartParser:
    """A benepar model from its release folder (config.json, benepar_model.bin, tokenizer) or its one-file checkpoint.

    Pickles are read with `weights_only`. Raises WeightsError for another layout.
    """
    try:
        config, state = _read(path)
        with compatible_tokenizers():
            parser = parse_chart.ChartParser(**config)
        expected = parser.state_dict()
        state = {name: value for name, value in state.items() if name in expected or not name.endswith(OBSOLETE)}
        parser.load_state_dict(state)
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError, WeightsError) as error:
        found, todo = str(error), ""
        if isinstance(error, WeightsError):
            found, todo = f"{error.what}: {error.found}" if error.found else error.what, error.todo
        raise WeightsError("not a benepar model that can be loaded", where=str(path), found=found, todo=todo) from None
    return parser.eval()


def _read(path: Path) -> tuple[dict[str, Any], Mapping[str, torch.Tensor]]:
    if path.is_dir():
        config = dict(transformers.AutoConfig.from_pretrained(path).benepar)
        state = load_tensors(path / "benepar_model.bin")
        config["pretrained_model_path"] = str(path)
    else:
        data = load_tensors(path)
        config, state = dict(data["config"]), data["state_dict"]
    hparams = {"force_root_constituent": True, **config["hparams"]}  # absent from older models
    return {**config, "hparams": nkutil.HParams(**hparams)}, state


def compatible_tokenizers() -> mock._patch:
    """A context in which benepar's retokenizer makes tokenizers `with_special_tokens`."""

    def from_pretrained(*args: Any, **kwargs: Any) -> Any:
        return with_special_tokens(transformers.AutoTokenizer.from_pretrained(*args, **kwargs))

    library = types.SimpleNamespace(AutoTokenizer=types.SimpleNamespace(from_pretrained=from_pretrained))
    return mock.patch.object(retokenization, "transformers", library)


def with_special_tokens(tokenizer: Any) -> Any:
    """The tokenizer with `build_inputs_with_special_tokens(ids)`: the ids between its own prefix and suffix."""
    if hasattr(tokenizer, "build_inputs_with_special_tokens"):
        return tokenizer
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    start = next(at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
    prefix, suffix = whole[:start], whole[start + len(bare) :]
    tokenizer.build_inputs_with_special_tokens = lambda ids: prefix + list(ids) + suffix
    return tokenizer
