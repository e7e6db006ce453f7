"""Stages against the best bare forward pass of their model on the same inputs, in the same run.

    python -m bench.stages regions --photos ../shared/data/photos/images --net resnet50

`regions`: decode, crop, forward, store, beside (a) forward passes over the crops already made, in every form that torch
offers (eager, channels-last, folded, folded and channels-last, compiled, ours) and (b) the plain loop: open the
picture, crop, transform, one forward pass a crop. Runs are interleaved. CPU seconds stand beside wall seconds: on a
machine that is busy with other work they are the steadier of the two.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision.models
from torch import Tensor, nn
from torchvision.models import get_model_weights

from cache.store import Store
from pipeline import engine
from pipeline.regions.config import RegionsConfig, build_net
from pipeline.regions.extract import Crop, compute_rows, net_key, row_key
from schema.records import Box
from vision import images
from vision.crops import crop_tensor
from vision.fused import fold_batch_norm
from vision.resnet import FeatureNet, load_torchvision

N_CHOOSING = 3  # batches of each bare form, the quickest counts, before the best forms run in full
N_BEST = 2  # bare forms that run in full


@dataclass(frozen=True)
class Work:
    """Crops of the photographs: the whole picture and random boxes."""

    folder: Path
    crops: list[Crop]
    net: FeatureNet
    config: RegionsConfig
    weights: Path

    @property
    def wanted(self) -> dict[str, Crop]:
        name = net_key(self.net)
        return {row_key(crop, name, self.config.store_dtype): crop for crop in self.crops}

    def pixels(self) -> Tensor:
        """uint8 [N, 3, C, C], a multiple of the batch."""
        loaded = {crop.image.name: images.load(self.folder, crop.image) for crop in self.crops if crop.image}
        made = [crop_tensor(loaded[crop.image.name], crop.box, self.net.transform) for crop in self.crops if crop.image]
        return torch.stack(made[: len(made) // self.config.n_batch() * self.config.n_batch()])


def random_crops(folder: Path, n_crops: int, seed: int = 0) -> list[Crop]:
    rng = np.random.default_rng(seed)
    pictures = [image for path in sorted(folder.iterdir()) if (image := images.probe(folder, path.name)).ok]
    crops = [Crop(image, Box(0, 0, image.width, image.height)) for image in pictures][:n_crops]
    while len(crops) < n_crops:
        image = pictures[len(crops) % len(pictures)]
        width, height = (int(rng.integers(side // 8 + 1, side + 1)) for side in (image.width, image.height))
        x, y = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
        crops.append(Crop(image, Box(x, y, x + width, y + height)))
    return crops


def bare_forms(work: Work, *, compiled: bool) -> dict[str, Callable[[Tensor], Tensor]]:
    """Forward passes of standardised crops float32 [B, 3, C, C], named by their form; ours is the stage's own."""
    eager = load_torchvision(work.config.net, work.weights).to(work.net.device)
    folded = fold_batch_norm(copy.deepcopy(eager))
    last = {"memory_format": torch.channels_last}
    forms: dict[str, nn.Module] = {
        "eager": eager,
        "channels-last": copy.deepcopy(eager).to(**last),
        "folded": folded,
        "folded, channels-last": copy.deepcopy(folded).to(**last),
    }
    passes: dict[str, Callable[[Tensor], Tensor]] = dict(forms)
    if compiled:
        import torch._inductor.config as inductor

        inductor.freezing = True
        passes["compiled"] = torch.compile(copy.deepcopy(eager))
        passes["compiled, folded, channels-last"] = torch.compile(copy.deepcopy(folded).to(**last))
    passes["ours"] = lambda x: work.net._maps(x).mean((2, 3))
    return passes


def run_bare(forward: Callable[[Tensor], Tensor], batches: list[Tensor], name: str) -> None:
    last = "channels-last" in name or name == "ours"
    with torch.no_grad():
        for batch in batches:
            forward(batch.contiguous(memory_format=torch.channels_last) if last else batch)


def run_stage(work: Work) -> None:
    """What the stage does between its tables: rows into an empty store."""
    compute = partial(compute_rows, forward=work.net.forward, net=work.net, config=work.config, folder=work.folder)
    with tempfile.TemporaryDirectory() as folder, Store.open(folder) as store:
        engine.stream(store, work.wanted, compute, stage="regions")


def run_plain_loop(work: Work, model: nn.Module, n_crops: int) -> None:
    """Open, crop, transform and pass one by one, as released preprocessing scripts do."""
    preset = get_model_weights(work.config.net).IMAGENET1K_V1.transforms()  # type: ignore[attr-defined]
    with torch.no_grad():
        for crop in work.crops[:n_crops]:
            assert crop.image is not None
            model(preset(images.load(work.folder, crop.image).crop(crop.box.xyxy))[None])


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(work: Work, n_runs: int, *, compiled: bool, n_plain: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds a crop (wall, CPU) of each contestant, one entry a run."""
    pixels = work.pixels()
    batches = [work.net.transform.standardise(part) for part in pixels.split(work.config.n_batch())]
    forms = bare_forms(work, compiled=compiled)
    for name, forward in forms.items():  # compile, pack, warm up
        run_bare(forward, batches[:1], name)
    clock = 0 if work.net.device.type == "cuda" else 1  # CPU seconds do not notice other people's work
    trial = {
        name: min(timed(partial(run_bare, forward, batches[:1], name))[clock] for _ in range(N_CHOOSING))
        for name, forward in forms.items()
    }
    best = sorted(trial, key=trial.__getitem__)[:N_BEST]
    for name in forms:
        print(f"  {name:<34}{work.config.n_batch() / trial[name]:8.1f} crops/s in a short trial", flush=True)
    runs: dict[str, tuple[Callable[[], None], int]] = {
        f"bare: {name}": (partial(run_bare, forms[name], batches, name), len(pixels)) for name in best
    }
    runs["stage"] = partial(run_stage, work), len(work.crops)
    runs["plain loop"] = partial(run_plain_loop, work, forms["eager"], n_plain), n_plain  # type: ignore[arg-type]
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(n_runs):
        for name, (run, n_crops) in runs.items():
            wall, cpu = timed(run)
            seconds[name].append((wall / n_crops, cpu / n_crops))
    return seconds


def summary(seconds: dict[str, list[tuple[float, float]]]) -> dict[str, object]:
    """Median crops a second, and the stage's share of the best bare pass: the median of the runs' own ratios."""
    rates = {
        name: {
            "crops_per_s": 1 / statistics.median(wall for wall, _ in listed),
            "crops_per_cpu_s": 1 / statistics.median(cpu for _, cpu in listed),
        }
        for name, listed in seconds.items()
    }
    bare = [name for name in seconds if name.startswith("bare")]
    best = max(bare, key=lambda name: rates[name]["crops_per_s"])
    pairs = list(zip(seconds[best], seconds["stage"], strict=True))
    return {
        "rates": rates,
        "best_bare": best,
        "stage_of_best_bare_wall": statistics.median(b[0] / s[0] for b, s in pairs),
        "stage_of_best_bare_cpu": statistics.median(b[1] / s[1] for b, s in pairs),
    }


def regions(options: argparse.Namespace) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        weights = options.weights or Path(folder) / f"{options.net}.pth"
        if not options.weights:
            torch.manual_seed(0)
            torch.save(getattr(torchvision.models, options.net)(weights=None).state_dict(), weights)
        config = RegionsConfig(
            net=options.net, weights=str(weights), dtype=options.dtype, batch=options.batch, workers=options.workers
        )
        work = Work(
            options.photos, random_crops(options.photos, options.crops), build_net(config), config, Path(weights)
        )
        seconds = measure(work, options.runs, compiled=not options.no_compile, n_plain=options.plain)
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
    settings = {name: str(value) for name, value in vars(options).items() if name not in ("out", "photos", "stage")}
    return {"machine": {**machine, "threads": torch.get_num_threads()}, "settings": settings, **summary(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["regions"])
    parser.add_argument("--photos", type=Path, default=Path("../shared/data/photos/images"))
    parser.add_argument("--net", default="resnet50")
    parser.add_argument("--weights", type=Path, help="torchvision's file; without it random weights")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--crops", type=int, default=400)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--plain", type=int, default=40, help="crops of the plain loop")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    found = regions(options)
    text = json.dumps(found, indent=1, sort_keys=True)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
