"""Conversion of the one-stage toolkit's released checkpoints (`.pth.tar`) to a folder that `grounder` opens.

A checkpoint is a pickle of `epoch`, `best_loss`, `optimizer` and `state_dict`, whose names start with `module.`. It is
unpickled as tensors only; other contents, such as a score as a NumPy number, are dropped unread.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache import atomic, keys, weights
from pipeline.grounding.onestage.grounder import FILES, FORMAT, MODEL_TYPE, build
from pipeline.grounding.onestage.network import BLOCKS, N_SCALES, layers
from pipeline.grounding.onestage.text import Corpus
from schema.errors import WeightsError
from vision.torch_files import load_tensors

SIZE_PX = 256  # of the toolkit's square input
ANCHOR_PX = 416  # the input size for which the toolkit's anchors were computed
N_ANCHORS = 3  # a cell
HEAD_DIM = 64  # of BERT's attention heads
# Anchors by the data that the weights were trained on, from small to large. The toolkit has others for ReferItGame, but
# its training code misspells their name, so those weights were trained with COCO's as well.
COCO = ((10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326))
FLICKR = ((29, 26), (55, 58), (137, 71), (82, 121), (124, 205), (204, 132), (209, 263), (369, 169), (352, 294))
ANCHORS = MappingProxyType({"flickr": FLICKR, "referit": COCO, "refcoco": COCO})

VISUAL, TEXT = "visumodel.module_list", "textmodel"
UNUSED = re.compile(  # YOLO's own answers, BERT's pooler and table of positions, counters of batch norms
    rf"{VISUAL}\.(80|81|92|93|103|104|105)\.|{TEXT}\.(pooler\.|embeddings\.position_ids$)|.*num_batches_tracked$"
)
# For each of our coordinates (left, top, right, bottom, center x and y, 1 / columns, 1 / rows) its index among theirs,
# where x is the row and y the column.
COORDINATES = (1, 0, 3, 2, 5, 4, 7, 6)
PREFIX = "module."  # of torch's DataParallel
# The globals that a released file may name beside torch's own: NumPy's numbers in a checkpoint, the toolkit's two
# classes in a word list. None of them is called; inert classes replace them.
NUMBERS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "_codecs.encode")
LISTS = ("utils.word_utils.Corpus", "utils.word_utils.Dictionary")


class _Dropped:
    """Stands in for an allowed pickle global and discards its state."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def settings_of(state: Mapping[str, Tensor], trained_on: str, size_px: int) -> dict[str, Any]:
    """`config.json` of a checkpoint: its sizes follow from its tensors' shapes. Raises WeightsError, KeyError."""
    if "fcn_out.0.0.weight" in state:
        todo = "take weights that were trained without --light"
        raise WeightsError("not the full model", found="a model trained with --light", todo=todo)
    numbers = dict(layers())
    stages = [numbers[f"stages.{stage}.0"] for stage in range(len(BLOCKS))]
    channels = [len(state[f"{VISUAL}.{number}.conv_{number}.weight"]) for number in stages]
    sizes = {
        "size_px": size_px,
        "stem": len(state[f"{VISUAL}.0.conv_0.weight"]),
        "stem_stride": 1,
        "stages": tuple(zip(channels, BLOCKS, strict=True)),
        "width": len(state["mapping_visu.0.conv.weight"]),
        "anchors": anchors(trained_on, size_px),
    }
    kind, text = _text_sizes(state)
    return {"model_type": MODEL_TYPE, "format": FORMAT, "text": kind, "text_sizes": text, "sizes": sizes}


def anchors(trained_on: str, size_px: int) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Per scale, finest first, the anchors in the order of the network's answers: from large to small."""
    scaled = [(w * size_px / ANCHOR_PX, h * size_px / ANCHOR_PX) for w, h in ANCHORS[trained_on]]
    return tuple(tuple(scaled[at : at + N_ANCHORS][::-1]) for at in range(0, N_SCALES * N_ANCHORS, N_ANCHORS))


def renamed(state: Mapping[str, Tensor], settings: dict[str, Any]) -> tuple[dict[str, np.ndarray], set[str], list[str]]:
    """Our tensors, the names of those that they are made of, and those of ours with a wrong shape or infinite values.

    Raises KeyError for a missing tensor.
    """
    tensors: dict[str, np.ndarray] = {}
    used, bad, modules, width = set(), [], _released_modules(), settings["sizes"]["width"]
    with torch.device("meta"):
        layers_of_ours = build(settings).state_dict()
    for name, empty in layers_of_ours.items():
        fusion = re.fullmatch(r"heads\.(\d)\.(visual|query|coordinates)\.weight", name)
        if name.endswith("num_batches_tracked"):
            tensors[name] = np.zeros((), np.int64)
            continue
        theirs = (
            f"fcn_emb.{N_SCALES - 1 - int(fusion[1])}.0.conv.weight" if fusion else _released_name(name, modules, state)
        )
        used.add(theirs)
        value = state[theirs].float().numpy()
        if fusion:  # theirs acts on image, text and coordinates, concatenated
            coordinates = value[:, 2 * width :]
            parts = {"visual": value[:, :width], "query": value[:, width : 2 * width, 0, 0]}
            value = parts[fusion[2]] if fusion[2] in parts else coordinates[:, list(COORDINATES)]
        tensors[name] = value
        if value.shape != empty.shape or not np.isfinite(value).all():
            bad.append(name)
    return tensors, used, bad


def _released_modules() -> dict[str, str]:
    """The released name of each of our modules whose parameters keep name and shape."""
    blocks = {f"backbone.mapped.{scale}": f"mapping_visu.{scale}" for scale in range(N_SCALES)}
    names = {}
    for ours, number in layers():
        names[f"backbone.{ours}.0"] = f"{VISUAL}.{number}.conv_{number}"
        names[f"backbone.{ours}.1"] = f"{VISUAL}.{number}.batch_norm_{number}"
    for scale in range(N_SCALES):
        head = f"heads.{N_SCALES - 1 - scale}"  # ours are counted from the finest scale, theirs from the coarsest
        blocks |= {f"{head}.mixed.{2 + number}": f"fcn_emb.{scale}.{1 + number}" for number in range(2)}
        blocks[f"{head}.mixed.4"] = f"fcn_out.{scale}.0"
        names |= {f"{head}.mixed.0": f"fcn_emb.{scale}.0.bn", f"{head}.answer": f"fcn_out.{scale}.1"}
    for ours, theirs in blocks.items():
        names |= {f"{ours}.0": f"{theirs}.conv", f"{ours}.1": f"{theirs}.bn"}
    names |= {f"encoder.{ours}": f"mapping_lang.{theirs}" for ours, theirs in ((1, 0), (2, 1), (4, 4), (5, 5))}
    lstm = {"embedding": "embedding", "mlp.0": "mlp.0", "ahead": "rnn"}
    return names | {f"encoder.0.{ours}": f"{TEXT}.{theirs}" for ours, theirs in lstm.items()}


def _released_name(name: str, modules: Mapping[str, str], state: Mapping[str, Tensor]) -> str:
    module, _, part = name.rpartition(".")
    if module == "encoder.0.back":
        return f"{TEXT}.rnn.{part}_l0_reverse"
    if name.startswith("encoder.0.bert."):
        theirs = name.replace("encoder.0.bert", TEXT)
        old = theirs.removesuffix(part) + {"weight": "gamma", "bias": "beta"}.get(part, part)  # of older releases
        return old if old in state else theirs
    return f"{modules[module]}.{part}"


def _text_sizes(state: Mapping[str, Tensor]) -> tuple[str, dict[str, int]]:
    """The kind of text encoder, and its sizes."""
    if f"{TEXT}.rnn.weight_ih_l0" in state:
        n_words, embedding = state[f"{TEXT}.embedding.weight"].shape
        hidden = state[f"{TEXT}.rnn.weight_hh_l0"].shape[1]
        return "lstm", {"n_words": n_words, "embedding": embedding, "hidden": hidden}
    vocabulary, hidden = state[f"{TEXT}.embeddings.word_embeddings.weight"].shape
    return "bert", {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": len({name.split(".")[3] for name in state if name.startswith(f"{TEXT}.encoder.layer.")}),
        "num_attention_heads": hidden // HEAD_DIM,
        "intermediate_size": len(state[f"{TEXT}.encoder.layer.0.intermediate.dense.weight"]),
        "max_position_embeddings": len(state[f"{TEXT}.embeddings.position_embeddings.weight"]),
        "type_vocab_size": len(state[f"{TEXT}.embeddings.token_type_embeddings.weight"]),
    }


def convert(file: Path, out: Path, *, words: Path, trained_on: str = "", size_px: int = SIZE_PX) -> dict[str, Any]:
    """Write the folder `out`; returns its `config.json`.

    `words`: BERT's `vocab.txt` or its folder; for an LSTM the toolkit's `corpus.pth`, or its words line by line.
    `trained_on`: a key of ANCHORS, "" for that in the file's name. Raises WeightsError for a different layout,
    one that holds more than tensors, and words that are not the network's.
    """
    words_of_name = set(re.split(r"[^a-z]+", file.name.lower()))  # RefCOCO's splits are unc, unc+ and gref
    named = [name for name in ANCHORS if name in words_of_name]
    named += ["refcoco"] if words_of_name & {"unc", "gref"} and "refcoco" not in named else []
    data = trained_on or (named[0] if len(named) == 1 else "")
    if data not in ANCHORS:
        todo = f"pass --trained-on, which selects the anchors: one of {', '.join(ANCHORS)}"
        raise WeightsError("cannot tell the anchors from the file's name", where=str(file), found=data, todo=todo)
    state = read_state(file)
    try:
        settings = settings_of(state, data, size_px)
        tensors, used, bad = renamed(state, settings)
    except KeyError as error:
        raise WeightsError("not a one-stage checkpoint", where=str(file), found=f"no tensor {error.args[0]}") from None
    unknown = sorted(name for name in state.keys() - used if not UNUSED.match(name))
    for names, problem in (
        (unknown, "unknown tensor(s)"),
        (sorted(bad), "tensor(s) with a different shape or not finite"),
    ):
        if names:
            found = f"{len(names)} {problem}, such as {names[0]}"
            raise WeightsError("not a one-stage checkpoint", where=str(file), found=found)
    settings |= {"trained_on": data, "released_sha256": keys.digest_file(file)}
    lines = read_words(words / FILES["bert"] if words.is_dir() else words)
    n_words = settings["text_sizes"]["vocab_size" if settings["text"] == "bert" else "n_words"]
    if len(lines) != n_words:
        todo = "give the words that the weights were trained with"
        raise WeightsError(f"{len(lines)} words for {n_words} vectors", where=str(words), todo=todo)
    if settings["text"] == "lstm":
        Corpus(lines)  # checks its special words
    with atomic.folder(out) as new:
        weights.save_safetensors(new / "model.safetensors", tensors, {})
        (new / FILES[settings["text"]]).write_text("\n".join(lines) + "\n", encoding="utf-8")
        (new / "config.json").write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return settings


def read_state(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint's `state_dict`, by their names without `module.`."""
    content = load_tensors(file, [(_Dropped, name) for name in NUMBERS])
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        found = (
            f"keys {', '.join(map(str, list(content)[:4]))}" if isinstance(content, dict) else type(content).__name__
        )
        raise WeightsError("not a state_dict of tensors", where=str(file), found=found)
    return {name.removeprefix(PREFIX): value for name, value in state.items()}


def read_words(file: Path) -> list[str]:
    """A word list: the toolkit's `corpus.pth`, or text with one word per line."""
    if file.suffix not in (".pth", ".pt", ".tar"):
        try:
            return file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise WeightsError(f"cannot read the words: {error}", where=str(file)) from None
    corpus = load_tensors(file, [(SimpleNamespace, name) for name in LISTS])
    words = getattr(getattr(corpus, "dictionary", None), "idx2word", None)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise WeightsError("not a word list of the toolkit", where=str(file), found=type(corpus).__name__)
    return words
