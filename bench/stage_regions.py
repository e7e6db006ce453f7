"""The regions stage: decode, crop, forward, store, beside bare forward passes over prepared crops."""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision.models
from torch import Tensor, nn

from bench import timing
from cache.store import Store
from pipeline import engine
from pipeline.engine import Plan
from pipeline.regions.config import RegionsConfig, open_net
from pipeline.regions.stage import Crop, compute, net_key, row_key
from schema.records import Box
from vision import images, resnet
from vision.backbones import NETWORKS, FeatureNet
from vision.conv_layer import ConvLayer
from vision.crops import crop_tensor

N_BARE = 16  # crops of a bare forward pass at least


@dataclass(frozen=True)
class Work:
    """Crops of the photographs: the whole image and random boxes."""

    folder: Path
    crops: list[Crop]
    net: FeatureNet
    config: RegionsConfig
    weights: Path

    @property
    def wanted(self) -> dict[str, Crop]:
        name = net_key(self.net)
        return {row_key(crop, name, self.config.store_dtype): crop for crop in self.crops}

    @property
    def bare_batch(self) -> int:
        """Crops of a bare pass: threads that share a pass need more than the stage computes, unless --batch is set."""
        return self.config.batch or max(self.config.n_batch(), N_BARE)

    def batches(self) -> list[Tensor]:
        """Standardized crops [B, 3, C, C] on the network's device, full batches only."""
        loaded = {crop.image.name: images.load(self.folder, crop.image) for crop in self.crops if crop.image}
        made = [crop_tensor(loaded[crop.image.name], crop.box, self.net.transform) for crop in self.crops if crop.image]
        size = self.bare_batch
        pixels = torch.stack(made[: len(made) // size * size]).to(self.net.device)
        dtype = getattr(torch, self.config.dtype)
        return [self.net.transform.standardise(part).to(dtype).contiguous() for part in pixels.split(size)]


def random_crops(folder: Path, n_crops: int, seed: int = 0) -> list[Crop]:
    """Whole images, then boxes of at least an eighth of each side."""
    rng = np.random.default_rng(seed)
    pil_images = [image for path in sorted(folder.iterdir()) if (image := images.probe(folder, path.name)).ok]
    crops = [Crop(image, Box(0, 0, image.width, image.height)) for image in pil_images][:n_crops]
    while len(crops) < n_crops:
        image = pil_images[len(crops) % len(pil_images)]
        width, height = (int(rng.integers(side // 8 + 1, side + 1)) for side in (image.width, image.height))
        x, y = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
        crops.append(Crop(image, Box(x, y, x + width, y + height)))
    return crops


def bare_forms(work: Work, *, compiled: bool) -> dict[str, Callable[[Tensor], Tensor]]:
    """Forward passes of standardized crops float [B, 3, C, C], named by their form; ours is the stage's own."""
    eager = load_network(work)
    folded = copy.deepcopy(eager)
    if isinstance(folded, torchvision.models.ResNet):
        resnet.fold_batch_norm(folded)
    for module in folded.modules():
        if isinstance(module, ConvLayer):
            module.fold_norm()
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

        inductor.freezing = work.net.device.type == "cpu"
        passes["compiled"] = torch.compile(copy.deepcopy(eager))
        passes["compiled, folded, channels-last"] = torch.compile(copy.deepcopy(folded).to(**last))
    passes["ours"] = lambda x: work.net.maps(x).mean((2, 3))
    return passes


def load_network(work: Work) -> nn.Module:
    """The network as its library has it: not optimized for inference."""
    name, dtype = work.config.net, getattr(torch, work.config.dtype)
    return NETWORKS[name].load(name, work.weights).to(work.net.device, dtype)


def run_bare(forward: Callable[[Tensor], Tensor], batches: list[Tensor], name: str) -> None:
    last = "channels-last" in name or name == "ours"
    with torch.no_grad():
        for batch in batches:
            forward(batch.contiguous(memory_format=torch.channels_last) if last else batch)


def without_passes(net: FeatureNet) -> FeatureNet:
    """The network with zeros in place of features, so that the rest of the stage is measured."""
    changed = copy.copy(net)
    changed.forward = lambda crops: torch.zeros(len(crops), net.dim)  # type: ignore[method-assign]
    return changed


def run_stage(work: Work, net: FeatureNet) -> None:
    """The stage without its tables: rows into an empty store."""
    plan: Plan[Crop, None] = Plan("regions", work.wanted, {}, {})
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
        engine.run(plan, net, partial(compute, config=work.config, folder=work.folder), store)


def run_plain_loop(work: Work, model: Callable[[Tensor], Tensor], n_crops: int) -> None:
    """Open, crop, transform and pass one by one, as released preprocessing scripts do."""
    transform, dtype = work.net.transform, getattr(torch, work.config.dtype)
    with torch.no_grad():
        for crop in work.crops[:n_crops]:
            assert crop.image is not None
            part = transform.pixels(images.load(work.folder, crop.image).crop(crop.box.xyxy))
            model(transform.standardise(part[None]).to(work.net.device, dtype)).cpu()


def measure(options: argparse.Namespace) -> dict[str, object]:
    """The figures of one network, dtype and batch."""
    with tempfile.TemporaryDirectory() as folder:
        weights = options.weights or Path(folder) / f"{options.net}.pth"
        if NETWORKS[options.net].PACKAGE:
            weights = NETWORKS[options.net].package_file()
        elif not options.weights:
            torch.manual_seed(0)
            torch.save(getattr(torchvision.models, options.net)(weights=None).state_dict(), weights)
        config = RegionsConfig(
            net=options.net, weights=str(weights), dtype=options.dtype, batch=options.batch, workers=options.workers
        )
        crops = random_crops(options.photos, options.items)
        return _measure(Work(options.photos, crops, open_net(config), config, Path(weights)), options)


def _measure(work: Work, options: argparse.Namespace) -> dict[str, object]:
    batches, forms = work.batches(), bare_forms(work, compiled=not options.no_compile)
    clock = 0 if work.net.device.type == "cuda" else 1  # CPU seconds do not count other processes
    size = work.bare_batch
    trials = {name: partial(run_bare, forward, batches[:1], name) for name, forward in forms.items()}
    runs: dict[str, tuple[timing.Run, int]] = {
        f"bare: {name}": (partial(run_bare, forms[name], batches, name), len(batches) * size)
        for name in timing.choose(trials, clock, size)
    }
    runs["stage"] = partial(run_stage, work, work.net), len(work.crops)
    if work.config.dtype != "float32":
        plain = replace(work, config=work.config.model_copy(update={"dtype": "float32"}))
        runs["stage, float32"] = partial(run_stage, plain, open_net(plain.config)), len(work.crops)
    runs["stage without its passes"] = partial(run_stage, work, without_passes(work.net)), len(work.crops)
    runs["plain loop"] = partial(run_plain_loop, work, forms["eager"], options.plain), options.plain
    flops = timing.count_flops(partial(run_bare, forms["eager"], batches[:1], "eager")) / size
    result = timing.compare(runs, options.runs, flops, str(work.net.device), options.dtype)
    if work.config.dtype != "float32":
        pixels = torch.cat(batches[:2]).to(work.net.device)
        reference, found = (
            net.maps(pixels.to(net.dtype)).float().mean((2, 3)) for net in (open_net(plain.config), work.net)
        )
        result["features_relative_difference"] = float(((found - reference).norm(dim=1) / reference.norm(dim=1)).max())
    return result
