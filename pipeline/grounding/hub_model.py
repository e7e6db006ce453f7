"""What grounders of the transformers library share: their folder, what names their numbers, how they are loaded."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import PIL.Image
import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging as chatter

from cache import hub, keys
from cache.models import ModelRef
from pipeline.grounding.config import GroundConfig, Processor
from schema.errors import WeightsError
from vision.torch_files import DAMAGED, reason

SUFFIXES = (".json", ".txt", ".model")  # of the files beside the weights that change numbers: settings, vocabularies
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")  # one at least: a tokenizer without one reads nothing
MAX_SCALE = 4  # of an image's longer side over the network's, before its processor takes it; see bounded
GPU_BATCH = 8  # images of a pass on a GPU where the parameters say nothing


UNLOADABLE = (*DAMAGED, OSError, ImportError, SafetensorError)  # what libraries answer a model's damaged files with


def find_folder(config: GroundConfig) -> Path:
    """The model's folder: a path, or the snapshot of a name on the hub that is on this machine. No network is asked."""
    folder = ModelRef(config.weights, "grounder", "hub", revision=config.revision).locate()
    lost = [file for file in ("config.json", "preprocessor_config.json") if not (folder / file).is_file()]
    lost += [] if hub.weights_file(folder) else ["weights"]
    lost += [] if any((folder / file).is_file() for file in VOCABULARIES) else ["tokenizer"]
    wrong = f"no {' and no '.join(lost)}" if lost else hub.bad_json(folder)
    if wrong:
        raise WeightsError("no whole model", where=str(folder), found=wrong, todo=_todo(config))
    return folder


def identity(config: GroundConfig, folder: Path, version: str) -> dict[str, str]:
    """All that the numbers depend on but the image, the text and the versions of libraries."""
    files = {path.name: keys.digest_file(path) for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES}
    return {
        "name": config.grounder,
        "version": version,
        "weights": hub.digest(folder),
        "files": keys.key("model-files", files=files),
        "image_processor": config.processor,
        "dtype": config.dtype,
    }


def load_model(kind: type, folder: Path, config: GroundConfig) -> Any:
    """A model in evaluation mode on its device. No code of the folder runs; every tensor must be in its weights.

    Raises WeightsError for a folder of another model, a damaged one, and one that lacks tensors.
    """
    wanted = kind.config_class.model_type  # type: ignore[attr-defined]
    try:
        model_type = _settings(folder).model_type
        if model_type != wanted:
            raise WeightsError(f"no {wanted} model", where=str(folder), found=model_type)
        model, report = _quietly(kind, folder, getattr(torch, config.dtype))
    except UNLOADABLE as error:
        what = f"cannot load the {wanted} model"
        raise WeightsError(what, where=str(folder), found=reason(error), todo=_todo(config)) from None
    lost = sorted(report["missing_keys"]) + [str(one[0]) for one in report["mismatched_keys"]]
    if lost:
        found = f"{len(lost)} tensor(s) missing or of another shape, {lost[0]} among them"
        raise WeightsError(f"no whole {wanted} model", where=str(folder), found=found)
    return model.to(config.torch_device()).eval().requires_grad_(False)


def _quietly(kind: Any, folder: Path, dtype: torch.dtype) -> tuple[nn.Module, dict[str, Any]]:
    verbosity, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    try:
        options = {"dtype": dtype} if int(transformers.__version__.split(".")[0]) > 4 else {"torch_dtype": dtype}
        return kind.from_pretrained(folder, local_files_only=True, output_loading_info=True, **options)
    finally:
        chatter.set_verbosity(verbosity)
        if bars:
            chatter.enable_progress_bar()


def image_processor(name: str, folder: Path, processor: Processor) -> Any:
    """The library's processor of that name (such as Owlv2) in one of its two forms, whose numbers differ."""
    plain, since_5 = f"{name}ImageProcessor", hasattr(transformers, f"{name}ImageProcessorPil")
    if since_5:
        wanted = plain if processor == "torchvision" else f"{plain}Pil"
    else:  # transformers 4 called them Fast and nothing
        wanted = f"{plain}Fast" if processor == "torchvision" else plain
    kind = getattr(transformers, wanted, None)
    if kind is None:
        todo = "set ground.processor: pil, or install a newer transformers"
        raise WeightsError(f"transformers {transformers.__version__} has no {wanted}", todo=todo)
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except UNLOADABLE as error:
        raise WeightsError("cannot load the image processor", where=str(folder), found=reason(error)) from None


@lru_cache(maxsize=2)
def settings(folder: Path) -> Any:
    """The settings in a model's folder; raises WeightsError."""
    try:
        return _settings(folder)
    except UNLOADABLE as error:
        raise WeightsError("cannot load the model's settings", where=str(folder), found=reason(error)) from None


def _settings(folder: Path) -> Any:
    return transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


@lru_cache(maxsize=2)
def tokenizer(folder: Path) -> Any:
    """The folder's tokenizer."""
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except UNLOADABLE as error:
        raise WeightsError("cannot load the tokenizer", where=str(folder), found=reason(error)) from None


def _todo(config: GroundConfig) -> str:
    name = config.weights
    return "give the folder of a whole model" if Path(name).expanduser().is_dir() else f"fmit models fetch {name}"


def n_batch(config: GroundConfig) -> int:
    """Images and texts of a pass; on a CPU one: a row's last bits follow its place in a pass."""
    if config.torch_device() == "cpu":
        return 1
    return config.batch or GPU_BATCH


def bounded(image: PIL.Image.Image, network_px: int) -> PIL.Image.Image:
    """The image in RGB, made smaller where a side is longer than MAX_SCALE times the network's.

    OWLv2's processor makes a float square of the longer side and blurs it by a square kernel that grows with it: a line
    of 20,000 pixels would take gigabytes and hours.
    """
    image = image.convert("RGB")
    scale = MAX_SCALE * network_px / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), PIL.Image.Resampling.BOX)
