"""The grid of the ablation: the cells of each picture's last convolution, once for every distinct picture.

R cells a side (7 at 224 pixels), D floats of a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from cache.packs import Objects
from pipeline import engine
from pipeline.engine import Memory, Progress, Rows, Tally
from pipeline.regions.config import RegionsConfig
from pipeline.regions.extract import Crop, compute_rows, net_key, row_key
from pipeline.undrawn import refuse_undrawn
from schema.records import Box, Image, Post, Region
from vision.boxes import clip
from vision.crops import Transform
from vision.resnet import FeatureNet

DTYPE = "float16"  # 4,096 posts' grids of ResNet-152 take 1.6 GB in twice that


def extract_grids(
    posts: Sequence[Post],
    config: RegionsConfig,
    net: FeatureNet,
    images_folder: Path,
    store: Rows | None = None,
    progress: Progress = engine.silent,
) -> tuple[Iterator[tuple[str, Objects]], Tally]:
    """(digest, objects) of every distinct ok picture: features float16 [R * R, D], cells row by row.

    `net` computes crops; it says itself how it sees a whole picture's grid. Raises ToyError and ImageError as
    `extract_objects` does.
    """
    if net.toy and not config.allow_toy:
        refuse_undrawn(posts, config.net)
    net = net.for_grid()
    rows = store if store is not None else Memory()
    pictures = {image.digest: image for post in posts for image in post.images if image.ok}
    crops = [Crop(image, Box(0, 0, image.width, image.height)) for image in pictures.values()]
    name = net_key(net)
    wanted = {row_key(crop, name, DTYPE, "grid"): crop for crop in crops}
    half = config.model_copy(update={"store_dtype": DTYPE})
    compute = partial(compute_rows, forward=net.grid, net=net, config=half, folder=images_folder)
    fill = partial(engine.stream, rows, wanted, compute, stage="grid", progress=progress)
    tally = fill()
    return _objects(wanted, partial(engine.read, rows, again=fill), net), tally


def cell_boxes(image: Image, transform: Transform, side: int) -> tuple[Box, ...]:
    """The part of a picture under each of `side * side` cells: of its centre square, unless the net squashes it."""
    short = min(image.width, image.height)
    seen = short * transform.crop_px / transform.resize_px if transform.resize_px else 0.0
    width, height = (seen, seen) if seen else (float(image.width), float(image.height))
    left, top = (image.width - width) / 2, (image.height - height) / 2
    x, y = ([start + size * step / side for step in range(side + 1)] for start, size in ((left, width), (top, height)))
    return tuple(
        clip((x[column], y[row], x[column + 1], y[row + 1]), image.width, image.height, 0)[0]
        for row in range(side)
        for column in range(side)
    )


def _objects(
    wanted: dict[str, Crop], read: Callable[[list[str]], list[np.ndarray]], net: FeatureNet
) -> Iterator[tuple[str, Objects]]:
    for key, crop in wanted.items():
        (features,) = read([key])
        assert crop.image is not None
        cells = cell_boxes(crop.image, net.transform, round(len(features) ** 0.5))
        yield crop.image.digest, Objects(features, tuple(Region("image", "", None, cell, 1.0) for cell in cells))
