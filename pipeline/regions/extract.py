"""Features of every region: each picture decoded once for all its missing boxes, crops of many in one fixed batch.

N crops of a pass, C side of a crop in pixels, D floats of a feature.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cache import keys
from cache.packs import Objects
from pipeline import engine
from pipeline.engine import Memory, Progress, Rows, Tally
from pipeline.regions.config import RegionsConfig
from pipeline.regions.objects import post_regions
from pipeline.undrawn import refuse_undrawn
from schema.errors import WeightsError
from schema.labels import LabelSet
from schema.records import Box, Grounded, Image, Post, PostPhrases, Region
from vision import images
from vision.crops import crop_tensor
from vision.resnet import TOY, FeatureNet

VERSION = "1"  # of what a stored row means
EMPTY_BOX = Box(0, 0, *images.EMPTY.size)


@dataclass(frozen=True, slots=True)
class Crop:
    """What one row is made of; `image` None: the empty image."""

    image: Image | None
    box: Box

    @property
    def digest(self) -> str:
        return self.image.digest if self.image else images.EMPTY_DIGEST


@dataclass(frozen=True, slots=True)
class Plan:
    """A post's objects, and the row of each."""

    post_id: str
    regions: tuple[Region, ...]
    crops: list[tuple[str, Crop]]


def extract_objects(
    posts: Sequence[Post],
    boxes: Sequence[Grounded],
    labels: LabelSet,
    config: RegionsConfig,
    net: FeatureNet,
    images_folder: Path,
    store: Rows | None = None,
    progress: Progress = engine.silent,
    *,
    phrases: Sequence[PostPhrases] = (),
) -> tuple[Iterator[tuple[str, Objects]], Tally]:
    """(post id, objects) of every post, in order, read lazily from the store; how many rows were computed and phrases
    cut.

    `phrases` are needed for `no_image: paper`. Raises ToyError where a toy net would see pictures that nobody of us
    drew, ImageError where a picture is no longer what ingest saw.
    """
    if net.toy and not config.allow_toy:
        refuse_undrawn(posts, config.net)
    rows = store if store is not None else Memory()
    name = net_key(net)
    planned = list(_regions(posts, boxes, labels, config, phrases))
    plans = [_plan(post, regions, name, config.store_dtype) for post, regions in planned]
    n_cut = 0
    if config.max_phrases is not None:
        uncapped = _regions(posts, boxes, labels, config.model_copy(update={"max_phrases": None}), phrases)
        n_cut = sum(len(regions) for _, regions in uncapped) - sum(len(regions) for _, regions in planned)
    wanted = {key: crop for plan in plans for key, crop in plan.crops}
    compute = partial(compute_rows, forward=net.forward, net=net, config=config, folder=images_folder)
    fill = partial(engine.stream, rows, wanted, compute, stage="regions", progress=progress)
    tally = replace(fill(), n_cut=n_cut)
    return _objects(plans, partial(engine.read, rows, again=fill)), tally


def bare_objects(
    posts: Sequence[Post],
    boxes: Sequence[Grounded],
    labels: LabelSet,
    config: RegionsConfig,
    *,
    phrases: Sequence[PostPhrases] = (),
) -> list[Objects]:
    """The posts' objects, in order, with boxes, spans and texts as `extract_objects` has them, and features [M, 0].

    Of no width rather than zeros: nothing can take them for features. Raises ToyError as `extract_objects` does.
    """
    if config.net == TOY and not config.allow_toy:
        refuse_undrawn(posts, config.net)
    return [
        Objects(np.zeros((len(regions), 0), np.float32), regions)
        for _, regions in _regions(posts, boxes, labels, config, phrases)
    ]


def net_key(net: FeatureNet) -> str:
    """A net's identity in short: row keys are made by the million."""
    return keys.key("net", **net.identity)


def row_key(crop: Crop, net: str, dtype: str, kind: str = "region") -> str:
    """The store's key of a crop's row: bytes of the picture, the box, and all that the net's numbers depend on.

    `net` is its `net_key`.
    """
    return keys.key(kind, image=crop.digest, box=crop.box.xyxy, net=net, dtype=dtype, version=VERSION)


def compute_rows(
    missing: dict[str, Crop],
    forward: Callable[[Tensor], Tensor],
    net: FeatureNet,
    config: RegionsConfig,
    folder: Path,
) -> Iterator[tuple[str, np.ndarray]]:
    """(key, row) of every missing crop. `forward`: uint8 [N, 3, C, C] -> rows [N, ...]; N is the same each time."""
    by_image: dict[str, list[tuple[str, Crop]]] = defaultdict(list)
    for key, crop in missing.items():
        by_image[crop.digest].append((key, crop))
    read = partial(_read, net=net, folder=folder)
    pixels = chain.from_iterable(engine.ahead(read, by_image.values(), config.workers))
    before: tuple[list[str], Tensor] | None = None
    for names, batch in _batches(pixels, config.n_batch(), net):
        result = names, forward(batch)  # a GPU works on it while the rows before are taken
        if before:
            yield from _rows(*before, config.store_dtype)
        before = result
    if before:
        yield from _rows(*before, config.store_dtype)


def _read(jobs: Sequence[tuple[str, Crop]], net: FeatureNet, folder: Path) -> list[tuple[str, Tensor]]:
    """All crops of one picture, uint8 [3, C, C] each."""
    image = jobs[0][1].image
    picture = images.load(folder, image) if image else images.EMPTY
    return [(key, crop_tensor(picture, crop.box, net.transform)) for key, crop in jobs]


def _batches(pixels: Iterable[tuple[str, Tensor]], n_batch: int, net: FeatureNet) -> Iterator[tuple[list[str], Tensor]]:
    """Keys and uint8 [n_batch, 3, C, C]; the last batch ends in slots that nobody reads. A batch is valid until the
    second after it.
    """
    side = net.transform.crop_px
    shape, pinned = (n_batch, 3, side, side), net.device.type == "cuda"
    buffers = [
        torch.empty(shape, dtype=torch.uint8, pin_memory=pinned, memory_format=torch.channels_last).zero_()
        for _ in range(2)
    ]
    names: list[str] = []
    for key, crop in pixels:
        buffers[0][len(names)] = crop
        names.append(key)
        if len(names) == n_batch:
            yield names, buffers[0]
            names = []
            buffers.reverse()
    if names:
        yield names, buffers[0]


def _rows(names: Sequence[str], rows: Tensor, dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    """Rows as the store's arrays; WeightsError where one is not finite in its dtype."""
    with np.errstate(over="ignore"):
        values = rows[: len(names)].cpu().numpy().astype(dtype)
    if not np.isfinite(values).all():
        raise WeightsError(
            f"a feature is not finite as {dtype}",
            todo="check the weights, or set regions.store_dtype and regions.dtype to float32",
        )
    yield from zip(names, values, strict=True)


def _regions(
    posts: Sequence[Post],
    boxes: Sequence[Grounded],
    labels: LabelSet,
    config: RegionsConfig,
    phrases: Sequence[PostPhrases],
) -> Iterator[tuple[Post, tuple[Region, ...]]]:
    chosen: dict[str, list[Grounded]] = defaultdict(list)
    for one in boxes:
        chosen[one.post_id].append(one)
    parsed = {one.post_id: one.phrases for one in phrases}
    for post in posts:
        yield post, post_regions(post, chosen.get(post.id, ()), labels, config, parsed.get(post.id, ()))


def _plan(post: Post, regions: tuple[Region, ...], net: str, dtype: str) -> Plan:
    crops = [
        Crop(post.images[region.box.image_index], region.box) if region.box else Crop(None, EMPTY_BOX)
        for region in regions
    ]
    return Plan(post.id, regions, [(row_key(crop, net, dtype), crop) for crop in crops])


def _objects(plans: Sequence[Plan], read: Callable[[list[str]], list[np.ndarray]]) -> Iterator[tuple[str, Objects]]:
    for plan in plans:
        yield plan.post_id, Objects(np.stack(read([key for key, _ in plan.crops])), plan.regions)
