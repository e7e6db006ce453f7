"""Checkpoints in the one-stage toolkit's released layout, a sixteenth as wide, and its way from image to box.

The layout (names, order of layers, what is concatenated with what) is written down here once more, on purpose: the
converter is tested against this table, not against its own.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

THINNER = 16  # than the released network
WIDTH = 16  # instead of 512
N_PIECES = 20
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "left", "red", "dog", "cat", "##s", ",", "!"]
CORPUS = ["<pad>", "<go>", "<eos>", "<unk>", "the", "a", "left", "red", "dog", "cat", "dogs", ", "]
CONV, HAND_ON, ANSWER = "convolutional", "yoloconvolutional", "answer"


def structure() -> list[tuple[Any, ...]]:
    """YOLOv3's layers as its published settings list them: (kind, filters, kernel, stride) or (kind, layers)."""
    found: list[tuple[Any, ...]] = [(CONV, 32, 3, 1)]
    for filters, n_blocks in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        found.append((CONV, filters, 3, 2))
        found += [(CONV, filters // 2, 1, 1), (CONV, filters, 3, 1), ("shortcut", -3)] * n_blocks
    for filters, back in ((1024, 61), (512, 36), (256, None)):
        found += [(CONV, filters // 2, 1, 1), (CONV, filters, 3, 1)] * 2
        found += [(HAND_ON, filters // 2, 1, 1), (CONV, filters, 3, 1), (ANSWER, 255, 1, 1), ("yolo",)]
        if back is not None:
            found += [("route", -4), (CONV, filters // 4, 1, 1), ("upsample",), ("route", -1, back)]
    assert len(found) == 107
    return found


def checkpoint(kind: str, seed: int = 0) -> dict[str, Any]:
    """What the toolkit saves: tensors behind `module.`, and the numbers beside them."""
    rng = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    _visual(state, rng)
    for scale, filters in enumerate((1024, 512, 256)):
        _block(state, f"mapping_visu.{scale}.conv", f"mapping_visu.{scale}.bn", filters // THINNER, WIDTH, 1, rng)
        emb = f"fcn_emb.{scale}"
        for i, (n_in, kernel) in enumerate(((2 * WIDTH + 8, 1), (WIDTH, 3), (WIDTH, 1))):
            _block(state, f"{emb}.{i}.conv", f"{emb}.{i}.bn", n_in, WIDTH, kernel, rng)
        out = f"fcn_out.{scale}"
        _block(state, f"{out}.0.conv", f"{out}.0.bn", WIDTH, WIDTH // 2, 1, rng)
        state[f"{out}.1.weight"] = torch.randn(15, WIDTH // 2, 1, 1, generator=rng)
        state[f"{out}.1.bias"] = torch.randn(15, generator=rng) * 0.3
    text, dim = _bert(seed) if kind == "bert" else _lstm(seed)
    state |= {f"textmodel.{name}": value for name, value in text.items()}
    for name, n_in in (("0", dim), ("4", WIDTH)):
        state[f"mapping_lang.{name}.weight"] = torch.randn(WIDTH, n_in, generator=rng) / math.sqrt(n_in)
        state[f"mapping_lang.{name}.bias"] = torch.randn(WIDTH, generator=rng) * 0.1
        _norm(state, f"mapping_lang.{int(name) + 1}", WIDTH, rng)
    optimizer = {"state": {0: {"square_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    named = {f"module.{name}": value for name, value in state.items()}
    return {"epoch": 9, "state_dict": named, "best_loss": np.float64(0.68), "optimizer": optimizer}


def words(folder: Path, kind: str) -> Path:
    """The words' file of a kind of text encoder."""
    path = folder / ("vocab.txt" if kind == "bert" else "words.txt")
    path.write_text("\n".join(VOCABULARY if kind == "bert" else CORPUS) + "\n", encoding="utf-8")
    return path


def write(folder: Path, kind: str = "lstm", name: str = "flickr_best.pth.tar") -> tuple[Path, Path]:
    """A checkpoint in the format of torch before 1.6, as the released ones are, and its words' file."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint(kind), folder / name, _use_new_zipfile_serialization=False)
    return folder / name, words(folder, kind)


def best_box(state: dict[str, Tensor], image: Image.Image, ids: list[int], anchors: list[tuple[int, int]], size: int):
    """The toolkit's box in pixels of the image and its confidence as a share of all, by plain loops over the cells.

    `anchors` as published, small to large, for 416 pixels.
    """
    state = {name.removeprefix("module."): value.double() for name, value in state.items()}
    square, ratio, dw, dh = _letterboxed(image, size)
    maps = _maps(state, torch.from_numpy(square).permute(2, 0, 1)[None])
    text = _text(state, torch.tensor([ids]))
    large_first = anchors[::-1]
    found, total = [], 0.0
    for scale, seen in enumerate(maps):
        answers = _answers(state, scale, seen, text)
        side = answers.shape[-1]
        for row in range(side):
            for column in range(side):
                for anchor in range(3):
                    x, y, w, h, confidence = answers[anchor * 5 : anchor * 5 + 5, row, column].tolist()
                    width, height = (one * size / 416 for one in large_first[3 * scale + anchor])
                    stride = size / side
                    centre = (column + _sigmoid(x)) * stride, (row + _sigmoid(y)) * stride
                    half = width * math.exp(w) / 2, height * math.exp(h) / 2
                    box = (centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1])
                    found.append((confidence, box))
                    total += math.exp(confidence)
    confidence, (x0, y0, x1, y1) = max(found)
    return ((x0 - dw) / ratio, (y0 - dh) / ratio, (x1 - dw) / ratio, (y1 - dh) / ratio), math.exp(confidence) / total


def _letterboxed(image: Image.Image, size: int) -> tuple[np.ndarray, float, float, float]:
    """Every pixel the mean of what it covers, in loops; the rest of the square in the mean colour."""
    old = np.asarray(image.convert("RGB"), np.float64)
    ratio = size / max(image.size)
    width, height = round(image.width * ratio), round(image.height * ratio)
    dw, dh = (size - width) / 2, (size - height) / 2
    left, top = round(dw - 0.1), round(dh - 0.1)
    square = np.empty((size, size, 3))
    square[:] = (124, 116, 104)
    for y in range(height):
        for x in range(width):
            square[top + y, left + x] = np.rint(_covered(old, x, y, old.shape[1] / width, old.shape[0] / height))
    return (square / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225), ratio, dw, dh


def _covered(old: np.ndarray, x: int, y: int, step_x: float, step_y: float) -> np.ndarray:
    total, area = np.zeros(3), 0.0
    for row in range(int(y * step_y), min(math.ceil((y + 1) * step_y), old.shape[0])):
        for column in range(int(x * step_x), min(math.ceil((x + 1) * step_x), old.shape[1])):
            wide = min(column + 1, (x + 1) * step_x) - max(column, x * step_x)
            tall = min(row + 1, (y + 1) * step_y) - max(row, y * step_y)
            total, area = total + old[row, column] * wide * tall, area + wide * tall
    return total / area


def _maps(state: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """Coarsest first; every layer's output is kept, as the later ones name them by number."""
    outputs: list[Tensor] = []
    kept: list[Tensor] = []
    for i, (kind, *how) in enumerate(structure()):
        if kind in (CONV, HAND_ON):
            if kind == HAND_ON:
                kept.append(x)
            name, norm = f"visumodel.module_list.{i}.conv_{i}", f"visumodel.module_list.{i}.batch_norm_{i}"
            x = F.conv2d(x, state[f"{name}.weight"], stride=how[2], padding=how[1] // 2)
            x = F.leaky_relu(_normed(state, norm, x), 0.1)
        elif kind == "shortcut":
            x = outputs[-1] + outputs[how[0]]
        elif kind == "route":
            x = torch.cat([outputs[at] for at in how], 1)
        elif kind == "upsample":
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        outputs.append(x)
    mapped = []
    for scale, one in enumerate(kept):
        one = F.conv2d(one, state[f"mapping_visu.{scale}.conv.weight"])
        mapped.append(F.normalize(F.relu(_normed(state, f"mapping_visu.{scale}.bn", one)), dim=1))
    return mapped


def _text(state: dict[str, Tensor], ids: Tensor) -> Tensor:
    own = {name.removeprefix("textmodel."): value for name, value in state.items() if name.startswith("textmodel.")}
    if "embedding.weight" in own:
        x = F.relu(F.linear(own["embedding.weight"][ids], own["mlp.0.weight"], own["mlp.0.bias"]))
        lstm = nn.LSTM(x.shape[2], own["rnn.weight_hh_l0"].shape[1], batch_first=True, bidirectional=True).double()
        lstm.load_state_dict({name[4:]: value for name, value in own.items() if name.startswith("rnn.")})
        length = int((ids != 0).sum())
        x = lstm(x[:, :length])[0][:, length - 1]
    else:
        bert = BertModel(_bert_config()).double().eval()
        bert.load_state_dict(own, strict=False)
        states = bert(ids, attention_mask=(ids != 0).long(), output_hidden_states=True).hidden_states
        x = (states[-1][:, 0] + states[-2][:, 0] + states[-3][:, 0] + states[-4][:, 0]) / 4
    for linear, norm in (("0", "1"), ("4", "5")):
        x = F.linear(x, state[f"mapping_lang.{linear}.weight"], state[f"mapping_lang.{linear}.bias"])
        x = F.relu(_normed(state, f"mapping_lang.{norm}", x))
    return F.normalize(x, dim=1)


def _answers(state: dict[str, Tensor], scale: int, seen: Tensor, text: Tensor) -> Tensor:
    """[15, rows, columns]: image, text and coordinates one behind another, the row's coordinate first."""
    n = seen.shape[-1]
    coordinates = torch.zeros(1, 8, n, n, dtype=seen.dtype)
    for i in range(n):
        for j in range(n):
            edges = [2 * i - n, 2 * j - n, 2 * (i + 1) - n, 2 * (j + 1) - n]
            values = [edge / n for edge in edges]
            values += [(values[0] + values[2]) / 2, (values[1] + values[3]) / 2, 1 / n, 1 / n]
            coordinates[0, :, i, j] = torch.tensor(values)
    x = torch.cat([seen, text[:, :, None, None].expand(-1, -1, n, n), coordinates], 1)
    for name, padding in (
        (f"fcn_emb.{scale}.0", 0),
        (f"fcn_emb.{scale}.1", 1),
        (f"fcn_emb.{scale}.2", 0),
        (f"fcn_out.{scale}.0", 0),
    ):
        x = F.relu(_normed(state, f"{name}.bn", F.conv2d(x, state[f"{name}.conv.weight"], padding=padding)))
    return F.conv2d(x, state[f"fcn_out.{scale}.1.weight"], state[f"fcn_out.{scale}.1.bias"])[0]


def _normed(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    shape = (1, -1, 1, 1)[: x.dim()]
    mean, variance, weight, bias = (
        state[f"{name}.{part}"].view(shape) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _visual(state: dict[str, Tensor], rng: torch.Generator) -> None:
    out = [3]
    for i, (kind, *how) in enumerate(structure()):
        filters = out[-1]
        if kind in (CONV, HAND_ON):
            filters = how[0] // THINNER
            name = f"visumodel.module_list.{i}"
            _block(state, f"{name}.conv_{i}", f"{name}.batch_norm_{i}", out[-1], filters, how[1], rng)
        elif kind == ANSWER:
            state[f"visumodel.module_list.{i}.conv_{i}.weight"] = torch.randn(255, out[-1], 1, 1, generator=rng)
            state[f"visumodel.module_list.{i}.conv_{i}.bias"] = torch.randn(255, generator=rng)
            filters = 255
        elif kind == "route":
            filters = sum(out[at + 1 if at >= 0 else at] for at in how)
        out.append(filters)


def _block(
    state: dict[str, Tensor], conv: str, norm: str, n_in: int, n_out: int, kernel: int, rng: torch.Generator
) -> None:
    spread = math.sqrt(1.5 / (n_in * kernel * kernel))
    state[f"{conv}.weight"] = torch.randn(n_out, n_in, kernel, kernel, generator=rng) * spread
    _norm(state, norm, n_out, rng)


def _norm(state: dict[str, Tensor], name: str, n: int, rng: torch.Generator) -> None:
    state[f"{name}.weight"] = 1 + torch.rand(n, generator=rng) * 0.4
    state[f"{name}.bias"] = torch.randn(n, generator=rng) * 0.2
    state[f"{name}.running_mean"] = torch.randn(n, generator=rng) * 0.1
    state[f"{name}.running_var"] = 0.6 + torch.rand(n, generator=rng)
    state[f"{name}.num_batches_tracked"] = torch.tensor(1234)


def _lstm(seed: int) -> tuple[dict[str, Tensor], int]:
    torch.manual_seed(seed)
    parts = nn.ModuleDict({"mlp": nn.Sequential(nn.Linear(12, 8)), "rnn": nn.LSTM(8, 8, bidirectional=True)})
    parts["embedding"] = nn.Embedding(len(CORPUS), 12)
    return {name: value.detach() * 2 for name, value in parts.state_dict().items()}, 16


def _bert_config() -> BertConfig:
    sizes = {"hidden_size": 128, "num_hidden_layers": 5, "num_attention_heads": 2, "intermediate_size": 32}
    return BertConfig(vocab_size=len(VOCABULARY), max_position_embeddings=32, **sizes)


def _bert(seed: int) -> tuple[dict[str, Tensor], int]:
    torch.manual_seed(seed)
    model = BertModel(_bert_config())
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() > 1:
                value.mul_(4)
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return state, 128


def older(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of BERT's norms before 0.6 of its first PyTorch port."""
    pairs = ((r"LayerNorm\.weight$", "LayerNorm.gamma"), (r"LayerNorm\.bias$", "LayerNorm.beta"))
    for old, new in pairs:
        state = {re.sub(old, new, name): value for name, value in state.items()}
    return state
