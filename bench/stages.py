"""Stages against the best bare forward pass of their model on the same inputs, in the same run.

    python -m bench.stages regions --photos ../shared/data/photos/images --net resnet50
    python -m bench.stages regions --net efficientnet-lite2
    python -m bench.stages ground --net base --dtype bfloat16 --batch 8
    python -m bench.stages ground --net nanodet-g
    python -m bench.stages phrases
    python -m bench.stages all

Each stage runs without its tables: missing items in, rows into an empty store. Beside it run (a) forward passes over
prepared tensors, in every form that torch offers (eager, channels-last, folded, compiled), of which the fastest counts,
and (b) the plain loop of released scripts: item after item. Runs are interleaved. CPU seconds are given beside wall
seconds, since they vary less on a busy machine. `all` runs every stage from posts to pack: posts a second, and each
stage's share.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from bench import stage_all, stage_ground, stage_phrases, stage_regions, timing

STAGES = {
    "regions": stage_regions.measure,
    "ground": stage_ground.measure,
    "phrases": stage_phrases.measure,
    "all": stage_all.measure,
}
USUAL = {"regions": ("resnet50", 400), "ground": ("base", 23), "phrases": ("embedded", 256), "all": ("resnet50", 576)}


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; `net` and `items` have a default for each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("--photos", type=Path, default=Path("../shared/data/photos/images"))
    parser.add_argument(
        "--net", help="regions: a network of the stage; all: a ResNet; ground: base or tiny (OWLv2), nanodet-g"
    )
    parser.add_argument("--weights", type=Path, help="torchvision's file; without it random weights")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--items", type=int, help="crops, images or posts")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--plain", type=int, default=40, help="items of the plain loop")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args(arguments)
    net, items = USUAL[options.stage]
    options.net, options.items = options.net or net, options.items or items
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure one stage, print the figures as JSON and write them to --out."""
    options = parsed(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = {name: str(value) for name, value in vars(options).items() if name not in ("out", "photos", "weights")}
    result = {"machine": timing.machine(device), "settings": settings, **STAGES[options.stage](options)}
    text = json.dumps(result, indent=1, sort_keys=True)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
