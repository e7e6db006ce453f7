"""Shared code of the grounders that use transformers models: their folder, their identity, and how they are loaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

import torch
import transformers
from safetensors import SafetensorError
from transformers.utils import logging

from cache import hub, keys
from cache.models import ModelRef
from pipeline.grounding.config import GroundConfig, Processor
from pipeline.grounding.grounder import Grounder, LazyGrounder
from schema.errors import WeightsError
from vision.torch_files import DAMAGED, reason

SUFFIXES = (".json", ".txt", ".model")  # of the files beside the weights that change numbers: settings, vocabularies
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")  # a tokenizer needs one of them
# Of an image's longer side over the network's, before its processor takes it. OWLv2's makes a float square of the
# longer side and blurs it by a kernel that grows with it: a line of 20,000 pixels would take gigabytes and hours
MAX_SCALE = 4
GPU_BATCH = 8  # images of a batch on a GPU where the parameters do not say
TODO = "give the folder of a complete model, or: fmit models fetch NAME"
UNLOADABLE = (*DAMAGED, OSError, ImportError, SafetensorError)  # what libraries raise on damaged files of a model


class HubGrounder(Grounder):
    """A grounder built on a transformers model with its image processor and tokenizer."""

    model_class: ClassVar[Any]
    processor_name: ClassVar[str]
    version: ClassVar[str]  # of everything between an image and its boxes that the identity does not name
    max_pieces: ClassVar["attrgetter[int]"]  # of a text, from the model's settings

    def __init__(self, model: Any, processor: Any, tokenizer: Any, identity: dict[str, str], n_batch: int) -> None:
        self._model, self._processor, self._tokenizer, self._n_batch = model, processor, tokenizer, n_batch
        self.identity = identity
        self.n_pieces: int = self.max_pieces(model.config)

    @staticmethod
    def count_pieces(tokenizer: Any, text: str) -> int:
        raise NotImplementedError

    def is_cut(self, text: str) -> bool:
        return self.count_pieces(self._tokenizer, text) > self.n_pieces

    @classmethod
    def open(cls, config: GroundConfig) -> LazyGrounder:
        """The grounder from a folder or the hub's files on this machine; raises WeightsError."""
        folder = find_folder(config)
        merges = cls.merges and config.merge
        named = identity(config, folder, cls.version) | ({"merged": "yes" if merges else "no"} if cls.merges else {})

        def load() -> Grounder:
            model = load_model(cls.model_class, folder, config)
            processor = image_processor(cls.processor_name, folder, config.processor)
            grounder = cls(model, processor, _part("Tokenizer", folder), named, n_batch(config))
            grounder.merges = merges
            return grounder

        def is_cut(text: str) -> bool:  # without the weights
            settings = _part("Config", folder, "model's settings")
            return cls.count_pieces(_part("Tokenizer", folder), text) > cls.max_pieces(settings)

        return LazyGrounder(named, load, merges=merges, is_cut=is_cut)


def find_folder(config: GroundConfig) -> Path:
    """The model's folder: a path, or the snapshot of a name on the hub that is on this machine. Nothing is fetched."""
    folder = ModelRef(config.weights, "grounder", "hub", revision=config.revision).locate()
    missing = [file for file in ("config.json", "preprocessor_config.json") if not (folder / file).is_file()]
    missing += [] if hub.weights_file(folder) else ["weights"]
    missing += [] if any((folder / file).is_file() for file in VOCABULARIES) else ["tokenizer"]
    problem = f"no {' and no '.join(missing)}" if missing else hub.bad_json(folder)
    if problem:
        raise WeightsError("the model is incomplete", where=str(folder), found=problem, todo=TODO)
    return folder


def identity(config: GroundConfig, folder: Path, version: str) -> dict[str, str]:
    """All that the numbers depend on, except image, text and versions of libraries."""
    files = {path.name: keys.digest_file(path) for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES}
    return {
        "name": config.grounder,
        "version": version,
        "weights": hub.digest(folder),
        "files": keys.key("model-files", files=files),
        "image_processor": config.processor,
        "dtype": config.dtype,
    }


def load_model(model_class: Any, folder: Path, config: GroundConfig) -> Any:
    """A model in evaluation mode on its device. No code of the folder runs; every tensor must be in its weights.

    Raises WeightsError if the folder contains a different model, is damaged or lacks tensors.
    """
    expected = model_class.config_class.model_type
    model_type = _part("Config", folder, f"{expected} model").model_type
    if model_type != expected:
        raise WeightsError(f"not a model of type {expected}", where=str(folder), found=model_type)
    dtype = "dtype" if int(transformers.__version__.split(".")[0]) > 4 else "torch_dtype"
    options = {dtype: getattr(torch, config.dtype), "local_files_only": True, "output_loading_info": True}
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with _loading(f"{expected} model", folder):
            model, report = model_class.from_pretrained(folder, **options)
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    bad = sorted(report["missing_keys"]) + [str(key) for key, *_ in report["mismatched_keys"]]
    if bad:
        found = f"{len(bad)} tensor(s) missing or with a different shape, such as {bad[0]}"
        raise WeightsError(f"the {expected} model is incomplete", where=str(folder), found=found)
    return model.to(config.torch_device()).eval().requires_grad_(False)


def image_processor(name: str, folder: Path, processor: Processor) -> Any:
    """The library's processor of that name (such as Owlv2) in one of its two forms, whose numbers differ."""
    plain = f"{name}ImageProcessor"
    if hasattr(transformers, f"{plain}Pil"):
        class_name = plain if processor == "torchvision" else f"{plain}Pil"
    else:  # transformers 4 named them differently
        class_name = f"{plain}Fast" if processor == "torchvision" else plain
    processor_class = getattr(transformers, class_name, None)
    if processor_class is None:
        todo = "set ground.processor: pil, or install a newer transformers"
        raise WeightsError(f"transformers {transformers.__version__} has no {class_name}", todo=todo)
    with _loading("image processor", folder):
        return processor_class.from_pretrained(folder, local_files_only=True)


@lru_cache(maxsize=4)
def _part(kind: str, folder: Path, what: str = "") -> Any:
    """A model's "Config" or "Tokenizer"."""
    with _loading(what or kind.lower(), folder):
        auto_class = getattr(transformers, f"Auto{kind}")
        return auto_class.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


@contextmanager
def _loading(what: str, folder: Path) -> Iterator[None]:
    """Turn what the library raises on damaged files into a WeightsError."""
    try:
        yield
    except UNLOADABLE as error:
        raise WeightsError(f"cannot load the {what}", where=str(folder), found=reason(error), todo=TODO) from None


def n_batch(config: GroundConfig) -> int:
    """Images and texts of a batch; one on a CPU: a row's last bits depend on its position in a batch."""
    return 1 if config.torch_device() == "cpu" else config.batch or GPU_BATCH
