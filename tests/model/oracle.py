"""Eq. 3-12 read slowly, pair by pair and head by head, in float64: what the fast code has to equal.

Takes a state_dict of `model.interaction.FlatInteraction` and nothing else of it. Padding is never looked at; it comes
back as zeros.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

State = dict[str, Tensor]


def sinusoid(distance: int, dim: int) -> Tensor:
    """Eq. 7-8, entry by entry: [dim]."""
    angles = [distance / 10000 ** (2 * (entry // 2) / dim) for entry in range(dim)]
    return torch.tensor(
        [math.cos(angle) if entry % 2 else math.sin(angle) for entry, angle in enumerate(angles)], dtype=torch.float64
    )


def relative(state: State, ends: list[tuple[int, int]]) -> list[list[Tensor]]:
    """Eq. 3-6 and 9 for all pairs of cells given as (head, tail): R[i][j] [D]."""
    dim = state["position.weight"].shape[0]
    rows = []
    for head_i, tail_i in ends:
        row = []
        for head_j, tail_j in ends:
            four = (head_i - head_j, head_i - tail_j, tail_i - head_j, tail_i - tail_j)
            row.append(torch.relu(state["position.weight"] @ torch.cat([sinusoid(d, dim) for d in four])))
        rows.append(row)
    return rows


def attention(
    state: State, prefix: str, heads: int, cells: list[Tensor], pairs: list[list[Tensor]] | None
) -> list[Tensor]:
    """Eq. 10-12; without `pairs`, vanilla self-attention."""
    width = cells[0].shape[0] // heads
    mixed: list[list[Tensor]] = [[] for _ in cells]
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        query, key, value = (state[f"{prefix}.{name}.weight"][own] for name in ("query", "key_content", "value"))
        for i, cell in enumerate(cells):
            scores = []
            for j, other in enumerate(cells):
                score = (query @ cell) @ (key @ other)
                if pairs is not None:
                    position = state[f"{prefix}.key_position.weight"][own] @ pairs[i][j]
                    score = score + (query @ cell) @ position
                    score = score + state[f"{prefix}.content_bias"][head] @ (key @ other)
                    score = score + state[f"{prefix}.position_bias"][head] @ position
                scores.append(score / math.sqrt(width))
            weights = torch.softmax(torch.stack(scores), dim=0)
            mixed[i].append(
                sum((w * (value @ other) for w, other in zip(weights, cells, strict=True)), torch.zeros(()))
            )
    return [state[f"{prefix}.output.weight"] @ torch.cat(parts) for parts in mixed]


def normed(state: State, prefix: str, cell: Tensor) -> Tensor:
    centred = cell - cell.mean()
    scaled = centred / torch.sqrt((centred * centred).mean() + 1e-5)
    return scaled * state[f"{prefix}.weight"] + state[f"{prefix}.bias"]


def layer(state: State, prefix: str, heads: int, cells: list[Tensor], pairs: list[list[Tensor]] | None) -> list[Tensor]:
    mixed = attention(state, f"{prefix}.attention", heads, cells, pairs)
    cells = [normed(state, f"{prefix}.norm1", cell + more) for cell, more in zip(cells, mixed, strict=True)]
    first, last = f"{prefix}.ffn.0", f"{prefix}.ffn.2"
    hidden = [torch.relu(state[f"{first}.weight"] @ cell + state[f"{first}.bias"]) for cell in cells]
    more = [state[f"{last}.weight"] @ cell + state[f"{last}.bias"] for cell in hidden]
    return [normed(state, f"{prefix}.norm2", cell + extra) for cell, extra in zip(cells, more, strict=True)]


def interaction(
    state: State, heads: int, text: Tensor, text_mask: Tensor, objects: Tensor, spans: Tensor, object_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """`FlatInteraction.forward`, post by post."""
    n_layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("layers."))
    out_text, out_objects = torch.zeros_like(text), torch.zeros_like(objects)
    for post in range(len(text)):
        words = [t for t in range(text.shape[1]) if text_mask[post, t]]
        things = [m for m in range(objects.shape[1]) if object_mask[post, m]]
        cells = [text[post, t] for t in words] + [objects[post, m] for m in things]
        ends = [(t, t) for t in words] + [(int(spans[post, m, 0]), int(spans[post, m, 1])) for m in things]
        pairs = relative(state, ends) if "position.weight" in state else None
        for number in range(n_layers):
            cells = layer(state, f"layers.{number}", heads, cells, pairs)
        for t, cell in zip(words, cells, strict=False):
            out_text = out_text.index_put((torch.tensor(post), torch.tensor(t)), cell)
        for m, cell in zip(things, cells[len(words) :], strict=True):
            out_objects = out_objects.index_put((torch.tensor(post), torch.tensor(m)), cell)
    return out_text, out_objects
