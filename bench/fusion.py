"""Table 3: speed and parameters of the multimodal parts, relative to UMGF's: `python -m bench.fusion`, from the root.

Inference of what stands between encoder and CRF: projections included, text-only streams (UMT's span detection, FMIT's
boundary detection) not. Equal shape: 16 posts of 32 words, the published sizes (BERT-base 768, ResNet-152 2048; UMT 768
wide over 49 regions; UMGF and FMIT 512 wide, 8 heads, the same 8 objects), no padding, one thread and one library on
CPU. FMIT also as a direct implementation (`bench.ordinary`). Beside it the other approaches "as shipped": their public
codes pad every post to 128 words; UMGF's has six layers, four objects, and maps each pair of a word and an object for
its gates.

All sides take turns; medians over rounds. On a CPU that others use too, processor time varies less (the default).
Prints a table; `--out` gets the JSON that `fmit tables` reads. `--tiny` shows that the benchmark works.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from bench.libraries import interleaved, libraries
from bench.ordinary import Ordinary, PairGate
from bench.timing import machine
from cache import atomic
from model.baselines import umgf, umt
from model.interaction import FlatInteraction, Projection

SCHEMA_VERSION = 1  # of the JSON
SHIPPED_WORDS, SHIPPED_LAYERS, SHIPPED_OBJECTS = 128, 6, 4  # of the other approaches' public codes
CALLS = {"cpu": 1, "cuda": 20}  # of one timing: a GPU's are too short to time singly


@dataclass(frozen=True)
class Shape:
    """Sizes of all sides."""

    n_posts: int = 16
    n_words: int = 32
    n_objects: int = 8  # whole image and four general words, at all words; the rest at phrases of up to five
    n_regions: int = 49
    text_dim: int = 768
    object_dim: int = 2048
    width: int = 512
    heads: int = 8
    text_heads: int = 12  # of BERT-base and UMT


TINY = Shape(2, 8, 8, 4, 16, 8, 16, 2, 2)
Job = Callable[[], object]


@dataclass(frozen=True)
class Side:
    """A module and one call of it."""

    module: nn.Module
    call: Job

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())


def batch_of(shape: Shape, device: str) -> tuple[Tensor, ...]:
    """Random vectors: text [B, T, E], text_mask, objects [B, M, O], spans [B, M, 2], object_mask, regions [B, R, O]."""
    n_text, size = shape.n_words + 2, (shape.n_posts, shape.n_objects)
    generator = torch.Generator().manual_seed(0)
    head = torch.randint(1, shape.n_words - 3, size, generator=generator)
    spans = torch.stack([head, head + torch.randint(0, 5, size, generator=generator)], dim=-1)
    spans[:, : min(5, shape.n_objects * 5 // 8 + 1)] = torch.tensor([1, shape.n_words])
    parts = (
        torch.randn(shape.n_posts, n_text, shape.text_dim, generator=generator),
        torch.ones(shape.n_posts, n_text, dtype=torch.bool),
        torch.randn(*size, shape.object_dim, generator=generator),
        spans.clamp(max=shape.n_words),
        torch.ones(size, dtype=torch.bool),
        torch.randn(shape.n_posts, shape.n_regions, shape.object_dim, generator=generator),
    )
    return tuple(part.to(device) for part in parts)


def umt_side(shape: Shape, device: str) -> Side:
    """UMT's multimodal interaction module, one layer of each kind."""
    module = umt.Interaction(shape.text_dim, shape.text_heads, 4 * shape.text_dim, 0.0, shape.object_dim).to(device)
    text, text_mask, *_, regions = batch_of(shape, device)
    mask = torch.ones(regions.shape[:2], dtype=torch.bool, device=device)
    return Side(module.eval(), lambda: module(text, text_mask, regions, mask))


def umgf_side(shape: Shape, device: str, layers: int = 2, pairwise: bool = False) -> Side:
    """UMGF's fusion layers: two by the paper."""
    sizes = (shape.width, shape.heads, layers, shape.width // 2, 0.0, shape.text_dim, shape.object_dim)
    module = umgf.Interaction(*sizes)
    if pairwise:
        for nodes in (*module.word_nodes, *module.object_nodes):
            cast(umgf.Nodes, nodes).gate = PairGate(shape.width)
    module = module.to(device).eval()
    text, text_mask, objects, spans, object_mask, _ = batch_of(shape, device)
    words, word_mask = text[:, 1:-1].contiguous(), text_mask[:, 2:]
    return Side(module, lambda: module(words, word_mask, objects, spans, object_mask))


def fmit_side(shape: Shape, device: str, layers: int, kind: type[FlatInteraction] = FlatInteraction) -> Side:
    """FMIT's projection and flat lattice; the last layer for text only where the code can."""
    projection = Projection(shape.text_dim, shape.object_dim, shape.width)
    model = kind(shape.width, shape.heads, layers, 4 * shape.width)
    module = nn.ModuleList([projection, model]).to(device).eval()
    text, text_mask, objects, spans, object_mask, _ = batch_of(shape, device)

    def call() -> Tensor:
        cells, things = projection(text, objects)
        return model.forward_text(cells, text_mask, things, spans, object_mask)

    return Side(module, call)


def padded(shape: Shape) -> Shape:
    """The shape of a padded batch."""
    return replace(shape, n_words=4 * shape.n_words if shape == TINY else SHIPPED_WORDS)


def sides(shape: Shape, device: str, depths: tuple[int, ...] = (1, 3, 6)) -> dict[str, Side]:
    """All sides at equal shape by approach, and the other approaches as shipped."""
    torch.manual_seed(0)
    result = {"umt": umt_side(shape, device), "umgf": umgf_side(shape, device)}
    result |= {f"fmit-l{depth}": fmit_side(shape, device, depth) for depth in depths}
    result |= {f"fmit-l{depth} (ordinary code)": fmit_side(shape, device, depth, Ordinary) for depth in depths}
    result["umt, padded"] = umt_side(padded(shape), device)
    result["umgf, padded"] = umgf_side(padded(shape), device)
    few = replace(padded(shape), n_objects=SHIPPED_OBJECTS)
    result["umgf as shipped"] = umgf_side(few, device, SHIPPED_LAYERS, pairwise=True)
    return result


def measure(
    shape: Shape, device: str = "cpu", rounds: int = 5, dtype: str = "float32", clock: str = ""
) -> dict[str, Any]:
    """The JSON's values; `clock` is wall or cpu, "" the steadier one."""
    clock, n_calls = clock or ("cpu" if device == "cpu" else "wall"), CALLS[device]
    library, entries = libraries(device)[-1], sides(shape, device)
    jobs = {name: (library, calls(side.call, n_calls)) for name, side in entries.items()}
    with torch.no_grad(), autocast(device, dtype):
        times = interleaved(jobs, rounds)
    wall, cpu = (
        {name: statistics.median(timing[which] for timing in own) / n_calls for name, own in times.items()}
        for which in (0, 1)
    )
    seconds = wall if clock == "wall" else cpu
    return {
        "schema_version": SCHEMA_VERSION,
        "machine": machine(device) | {"library": library},
        "shape": vars(shape),
        "dtype": dtype,
        "clock": clock,
        "rounds": rounds,
        "rows": rows_of_table(entries, seconds, wall, cpu),
        "notes": notes(shape, seconds, device, clock),
    }


def calls(job: Job, n_calls: int) -> Callable[[], None]:
    def work() -> None:
        for _ in range(n_calls):
            job()

    return work


def autocast(device: str, dtype: str) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if dtype == "float32" else torch.autocast(device, getattr(torch, dtype))


def rows_of_table(
    entries: Mapping[str, Side], seconds: Mapping[str, float], wall: Mapping[str, float], cpu: Mapping[str, float]
) -> list[dict[str, Any]]:
    """A row for each side at equal shape; `padded_speedup`: others as shipped, FMIT at the posts' own length."""
    shipped = {"umt": "umt, padded", "umgf": "umgf as shipped"}
    return [
        {
            "approach": name,
            "seconds": seconds[name],
            "wall_s": wall[name],
            "cpu_s": cpu[name],
            "parameters": side.n_parameters,
            "speedup": seconds["umgf"] / seconds[name],
            "padded_speedup": seconds["umgf as shipped"] / seconds[shipped.get(name, name)],
        }
        for name, side in entries.items()
        if "padded" not in name and "shipped" not in name
    ]


def notes(shape: Shape, seconds: Mapping[str, float], device: str, clock: str) -> list[str]:
    """The notes below the table."""
    warning = "Tiny sizes: these figures show that the benchmark works and say nothing about speed."
    ms = {name: f"{1000 * value:.1f} ms" for name, value in seconds.items()}
    return [
        *([warning] if shape == TINY else []),
        f"Equal shape: {shape.n_posts} posts of {shape.n_words} words, {shape.n_objects} objects "
        f"(UMT: {shape.n_regions} regions), no padding; {machine(device)['device']}, {clock} clock; projections "
        "included, text-only streams not.",
        f"Other approaches, padded as in their public codes ({padded(shape).n_words} words): UMT "
        f"{ms['umt, padded']}; UMGF with "
        f"{SHIPPED_LAYERS} layers, {SHIPPED_OBJECTS} objects and a map of every pair {ms['umgf as shipped']} (as "
        f"above, padded: {ms['umgf, padded']}); FMIT at the posts' own length.",
    ]


def show(result: Mapping[str, Any], console: Console) -> None:
    table = Table("part", "ms", "over UMGF", "M parameters", "over UMGF as shipped")
    for row in result["rows"]:
        figures = (1000 * row["seconds"], row["speedup"], row["parameters"] / 1e6, row["padded_speedup"])
        table.add_row(row["approach"], *(f"{value:.2f}" for value in figures))
    console.print(table, *result["notes"], sep="\n")


@click.command(help=__doc__)
@click.option("--device", type=click.Choice(sorted(CALLS)), default="cpu", show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--clock", type=click.Choice(["wall", "cpu"]), help="[default: cpu on a CPU, else wall]")
@click.option("--tiny", is_flag=True, help="Tiny sizes.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
def main(device: str, dtype: str, rounds: int, clock: str | None, tiny: bool, out: Path | None) -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    result = measure(TINY if tiny else Shape(), device, rounds, dtype, clock or "")
    show(result, Console(width=110))
    if out:
        atomic.write_json(out, result)


if __name__ == "__main__":
    main()
