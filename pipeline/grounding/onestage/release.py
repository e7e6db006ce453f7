"""Names and sizes in the one-stage toolkit's released checkpoints, and ours for the same tensors.

From the one-stage toolkit's released checkpoints (`.pth.tar`) to a folder that `onestage_paper` loads.

A checkpoint is a pickle of `epoch`, `best_loss`, `optimizer` and `state_dict`, whose names start with `module.`. It is
unpickled as tensors only; what else such a file holds (a score, as a number of NumPy's) is dropped unread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache import atomic, keys, weights
from pipeline.grounding.onestage.grounder import FILES, FORMAT, MODEL_TYPE, build
from pipeline.grounding.onestage.network import BLOCKS, N_SCALES, Sizes, layers
from pipeline.grounding.onestage.text import Corpus
from schema.errors import WeightsError
from vision.torch_files import load_tensors

ANCHOR_PX = 416  # the input size that the toolkit's anchors were counted at
N_ANCHORS = 3  # a cell
HEAD_DIM = 64  # of BERT's attention heads
# Anchors by what the weights were trained on, from small to large. The toolkit has others for ReferItGame too, but its
# training misspells the name where it asks for them: those weights were trained with COCO's as well.
COCO = ((10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326))
FLICKR = ((29, 26), (55, 58), (137, 71), (82, 121), (124, 205), (204, 132), (209, 263), (369, 169), (352, 294))
ANCHORS = MappingProxyType({"flickr": FLICKR, "referit": COCO, "refcoco": COCO})

VISUAL, TEXT = "visumodel.module_list", "textmodel"
UNUSED = re.compile(  # YOLO's own answers, BERT's pooler and table of positions, counters of batch norms
    rf"{VISUAL}\.(80|81|92|93|103|104|105)\.|{TEXT}\.(pooler\.|embeddings\.position_ids$)|.*num_batches_tracked$"
)
NORM = ("weight", "bias", "running_mean", "running_var")
# For each of our coordinates (left, top, right, bottom, centre x and y, 1 / columns, 1 / rows) the place among theirs:
# they take the row for x and the column for y.
COORDINATES = (1, 0, 3, 2, 5, 4, 7, 6)
LSTM = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def settings_of(state: Mapping[str, Tensor], trained_on: str, size_px: int) -> dict[str, Any]:
    """`config.json` of a checkpoint: its sizes follow from its tensors' shapes. Raises WeightsError, KeyError."""
    if "fcn_out.0.0.weight" in state:
        todo = "take weights that were trained without --light"
        raise WeightsError("not the full model", found="the light one", todo=todo)
    numbers = dict(layers())
    channels = [
        len(state[f"{VISUAL}.{numbers[f'stages.{i}.0']}.conv_{numbers[f'stages.{i}.0']}.weight"]) for i in range(5)
    ]
    sizes = Sizes(
        size_px=size_px,
        stem=len(state[f"{VISUAL}.0.conv_0.weight"]),
        stem_stride=1,
        stages=tuple(zip(channels, BLOCKS, strict=True)),
        width=len(state["mapping_visu.0.conv.weight"]),
        anchors=anchors(trained_on, size_px),
    )
    kind = "lstm" if f"{TEXT}.rnn.weight_ih_l0" in state else "bert"
    text = (_lstm_sizes if kind == "lstm" else _bert_sizes)(state)
    return {"model_type": MODEL_TYPE, "format": FORMAT, "text": kind, "text_sizes": text, "sizes": asdict(sizes)}


def anchors(trained_on: str, size_px: int) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Per scale, finest first, the anchors in the order of the network's answers: from large to small."""
    scaled = [(w * size_px / ANCHOR_PX, h * size_px / ANCHOR_PX) for w, h in ANCHORS[trained_on]]
    return tuple(tuple(scaled[at : at + N_ANCHORS][::-1]) for at in range(0, N_SCALES * N_ANCHORS, N_ANCHORS))


def renamed(state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], set[str]]:
    """Our tensors, and the names of those that they were made of. Raises KeyError for one that is not there."""
    used: set[str] = set()

    def take(name: str) -> np.ndarray:
        used.add(name)
        return state[name].float().numpy() if state[name].is_floating_point() else state[name].numpy()

    ours = {name: take(theirs) for name, theirs in _pairs(state, settings["text"])}
    width = settings["sizes"]["width"]
    for scale in range(N_SCALES):
        first = take(f"fcn_emb.{scale}.0.conv.weight")  # acts on image, text and coordinates laid one behind another
        head = f"heads.{N_SCALES - 1 - scale}"
        ours[f"{head}.visual.weight"] = first[:, :width]
        ours[f"{head}.query.weight"] = first[:, width : 2 * width, 0, 0]
        ours[f"{head}.coordinates.weight"] = first[:, 2 * width :][:, list(COORDINATES)]
    counters = {
        name.removesuffix("running_var") + "num_batches_tracked" for name in ours if name.endswith("running_var")
    }
    return ours | {name: np.zeros((), np.int64) for name in counters}, used


def _pairs(state: Mapping[str, Tensor], kind: str) -> Iterator[tuple[str, str]]:
    """(our name, theirs) of every tensor that keeps its shape."""
    for ours, number in layers():
        yield from _conv(
            f"backbone.{ours}", f"{VISUAL}.{number}.conv_{number}", f"{VISUAL}.{number}.batch_norm_{number}"
        )
    for scale in range(N_SCALES):
        yield from _conv(f"backbone.mapped.{scale}", f"mapping_visu.{scale}.conv", f"mapping_visu.{scale}.bn")
        head = f"heads.{N_SCALES - 1 - scale}"  # ours count from the finest scale, theirs from the coarsest
        yield from _norm(f"{head}.mixed.0", f"fcn_emb.{scale}.0.bn")
        for ours, theirs in (("2", "fcn_emb.{}.1"), ("3", "fcn_emb.{}.2"), ("4", "fcn_out.{}.0")):
            block = theirs.format(scale)
            yield from _conv(f"{head}.mixed.{ours}", f"{block}.conv", f"{block}.bn")
        yield from ((f"{head}.answer.{part}", f"fcn_out.{scale}.1.{part}") for part in ("weight", "bias"))
    for ours, theirs in (("1", "0"), ("4", "4")):  # theirs has a dropout between
        yield from ((f"encoder.{ours}.{part}", f"mapping_lang.{theirs}.{part}") for part in ("weight", "bias"))
    yield from _norm("encoder.2", "mapping_lang.1")
    yield from _norm("encoder.5", "mapping_lang.5")
    yield from _lstm() if kind == "lstm" else _bert(state)


def _conv(ours: str, conv: str, norm: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.0.weight", f"{conv}.weight"
    yield from _norm(f"{ours}.1", norm)


def _norm(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield from ((f"{ours}.{part}", f"{theirs}.{part}") for part in NORM)


def _lstm() -> Iterator[tuple[str, str]]:
    yield "encoder.0.embedding.weight", f"{TEXT}.embedding.weight"
    for part in ("weight", "bias"):
        yield f"encoder.0.mlp.0.{part}", f"{TEXT}.mlp.0.{part}"
    for part in LSTM:
        yield f"encoder.0.ahead.{part}_l0", f"{TEXT}.rnn.{part}_l0"
        yield f"encoder.0.back.{part}", f"{TEXT}.rnn.{part}_l0_reverse"


def _bert(state: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    for theirs in state:
        if theirs.startswith(f"{TEXT}.") and not UNUSED.match(theirs):
            name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", theirs))  # norms of older releases
            yield f"encoder.0.bert.{name.removeprefix(f'{TEXT}.')}", theirs


def _bert_sizes(state: Mapping[str, Tensor]) -> dict[str, int]:
    vocabulary, hidden = state[f"{TEXT}.embeddings.word_embeddings.weight"].shape
    numbers = {int(name.split(".")[3]) for name in state if name.startswith(f"{TEXT}.encoder.layer.")}
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": len(numbers),
        "num_attention_heads": hidden // HEAD_DIM,
        "intermediate_size": len(state[f"{TEXT}.encoder.layer.0.intermediate.dense.weight"]),
        "max_position_embeddings": len(state[f"{TEXT}.embeddings.position_embeddings.weight"]),
        "type_vocab_size": len(state[f"{TEXT}.embeddings.token_type_embeddings.weight"]),
    }


def _lstm_sizes(state: Mapping[str, Tensor]) -> dict[str, int]:
    n_words, embedding = state[f"{TEXT}.embedding.weight"].shape
    return {"n_words": n_words, "embedding": embedding, "hidden": state[f"{TEXT}.rnn.weight_hh_l0"].shape[1]}


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
