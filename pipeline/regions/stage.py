"""Stage regions: posts and boxes to the pack that training reads, with the grids of images if the parameters say so.

N crops of a batch, C side of a crop in pixels, D floats of a feature, R cells of a grid's side (7 at 224 pixels), M
objects of a post.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cache import keys, tables
from cache.packs import Objects, PackMeta, write_pack
from cache.store import Store
from pipeline import engine
from pipeline.engine import ChunkedRun, Plan, Progress, Readable, Rows, Tally, silent
from pipeline.passes import run_passes
from pipeline.provenance import note
from pipeline.ray_engine import cluster_of
from pipeline.regions.config import RegionsConfig, open_net
from schema.errors import ConfigError, DataError, WeightsError
from schema.labels import LabelSet
from schema.records import Box, Image, Phrase, Post, PostPhrases, Region
from vision import images
from vision.backbones import FeatureNet
from vision.crops import Transform, clip, crop_tensor

VERSION = "1"  # of the meaning of a stored row
STORE = "regions"
WHOLE_SCORE = 1.0  # of a whole image: no grounder chose it
EMPTY_SCORE = 0.0  # of the empty image: nothing was found there
EMPTY_BOX = Box(0, 0, *images.EMPTY.size)
GRID_DTYPE = "float16"  # the grids of 4,096 images from ResNet-152 take 0.8 GB, in float32 1.6 GB
N_BATCHES = 8  # of a cluster's task: only its last batch is padded


class PostRegions(NamedTuple):
    """A post's objects in the lattice's order, and how many phrases the cap left out."""

    regions: tuple[Region, ...]
    n_cut: int = 0


def post_regions(
    post: Post, boxes: Sequence[Region], labels: LabelSet, config: RegionsConfig, phrases: Sequence[Phrase] = ()
) -> tuple[Region, ...]:
    """The post's objects, before any cap, from its boxes. `phrases` are needed for `no_image: paper` only.

    Per usable image the whole image and one object per general word, then the phrases; a post without a usable image
    has the empty image. Raises DataError where a general word has no box: the boxes belong to a different label set.
    """
    usable = [index for index, image in enumerate(post.images) if image.ok]
    if not usable:
        regions = [Region("image", "", None, None, EMPTY_SCORE)]
        if config.no_image == "paper":
            regions += [Region("general", word, None, None, EMPTY_SCORE) for word in labels.general_words]
            regions += [Region("phrase", phrase.text, phrase.span, None, EMPTY_SCORE) for phrase in phrases]
        return tuple(regions)
    general = {(one.image_index, one.text): one for one in boxes if one.source == "general"}
    regions = []
    for index in usable:
        image = post.images[index]
        regions.append(Region("image", "", None, Box(0, 0, image.width, image.height, index), WHOLE_SCORE))
        for word in labels.general_words:
            if (index, word) not in general:
                where, todo = f"post {post.id}, image {index}", "run the ground stage again"
                raise DataError(f"no box for the general word {word!r}", where=where, todo=todo)
            regions.append(general[index, word])
    by_span = {one.span: one for one in boxes if one.source == "phrase" and one.span is not None}
    return (*regions, *(by_span[span] for span in sorted(by_span)))


def capped(regions: Sequence[Region], cap: int | None) -> tuple[Region, ...]:
    """The objects without the phrases beyond the cap: the longest are cut first, of equally long ones the last."""
    spans = [region.span for region in regions if region.span is not None]
    within = set(sorted(spans, key=lambda span: (span.end - span.start, span))[:cap])
    return tuple(region for region in regions if region.span is None or region.span in within)


def _all_regions(
    posts: Sequence[Post],
    boxes: Mapping[str, Sequence[Region]],
    labels: LabelSet,
    config: RegionsConfig,
    phrases: Sequence[PostPhrases],
) -> Iterator[tuple[Post, PostRegions]]:
    """Each post with its objects, those beyond the cap left out."""
    phrases_of = {one.post_id: one.phrases for one in phrases}
    for post in posts:
        every = post_regions(post, boxes.get(post.id, ()), labels, config, phrases_of.get(post.id, ()))
        regions = capped(every, config.max_phrases)
        yield post, PostRegions(regions, len(every) - len(regions))


class Crop(NamedTuple):
    """What a row is computed from; `image` None: the empty image."""

    image: Image | None
    box: Box

    @property
    def digest(self) -> str:
        return self.image.digest if self.image else images.EMPTY_DIGEST


def plan(
    posts: Sequence[Post],
    boxes: Mapping[str, Sequence[Region]],
    labels: LabelSet,
    config: RegionsConfig,
    net: FeatureNet,
    phrases: Sequence[PostPhrases] = (),
) -> Plan[Crop, PostRegions]:
    """The features that posts need: one per object."""
    name = net_key(net)

    def rows() -> Iterator[tuple[str, list[tuple[str, Crop]], PostRegions]]:
        for post, regions in _all_regions(posts, boxes, labels, config, phrases):
            crops = [
                Crop(post.images[region.box.image_index], region.box) if region.box else Crop(None, EMPTY_BOX)
                for region in regions.regions
            ]
            yield post.id, [(row_key(crop, name, config.store_dtype), crop) for crop in crops], regions

    return Plan.of("regions", rows())


def plan_grids(posts: Sequence[Post], net: FeatureNet) -> Plan[Crop, None]:
    """The grids that posts need: one per distinct usable image."""
    name = net_key(net)

    def rows() -> Iterator[tuple[str, list[tuple[str, Crop]], None]]:
        for post in posts:
            crops = [Crop(image, Box(0, 0, image.width, image.height)) for image in post.images if image.ok]
            yield post.id, [(row_key(crop, name, GRID_DTYPE, "grid"), crop) for crop in crops], None

    return Plan.of("grid", rows())


def net_key(net: FeatureNet) -> str:
    """A network's identity in short: there are millions of row keys."""
    return keys.key("net", **net.identity)


def row_key(crop: Crop, net: str, dtype: str, kind: str = "region") -> str:
    """The store's key of a crop's row: image bytes, box, and `net_key`, which names all else that decides it."""
    return keys.key(kind, image=crop.digest, box=crop.box.xyxy, net=net, dtype=dtype, version=VERSION)


def compute(
    items: dict[str, Crop], net: FeatureNet, config: RegionsConfig, folder: Path, *, grid: bool = False
) -> Iterator[tuple[str, np.ndarray]]:
    """(key, feature [D]) of every crop, with `grid` (key, [R * R, D]).

    Each image is decoded once for all its crops. Batches have one shape, filled with crops of many images.
    """
    forward, dtype = (net.grid, GRID_DTYPE) if grid else (net.forward, config.store_dtype)
    by_image: dict[str, list[tuple[str, Crop]]] = defaultdict(list)
    for key, crop in items.items():
        by_image[crop.digest].append((key, crop))

    def read(jobs: Sequence[tuple[str, Crop]]) -> list[tuple[str, Tensor]]:
        image = jobs[0][1].image
        pixels = images.load(folder, image) if image else images.EMPTY
        return [(key, crop_tensor(pixels, crop.box, net.transform)) for key, crop in jobs]

    crops = chain.from_iterable(engine.prefetch(read, by_image.values(), config.workers))
    batches = _batches(crops, config.n_batch(), net)
    n_passes = min(config.workers, -(-len(items) // config.n_batch())) if net.device.type == "cpu" else 1
    previous: tuple[list[str], Tensor] | None = None
    for result in run_passes(lambda batch: (batch[0], forward(batch[1])), batches, n_passes):
        if previous:  # its rows are copied while a GPU computes the result
            yield from _rows(*previous, dtype)
        previous = result
    if previous:
        yield from _rows(*previous, dtype)


def _batches(pixels: Iterator[tuple[str, Tensor]], n_batch: int, net: FeatureNet) -> Iterator[tuple[list[str], Tensor]]:
    """Keys and uint8 [n_batch, 3, C, C], channels last; the last batch is padded with zeros."""
    side, pinned = net.transform.crop_px, net.device.type == "cuda"
    while part := list(islice(pixels, n_batch)):
        shape = engine.batch_shape(len(part), n_batch), side, side, 3
        batch = torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned).permute(0, 3, 1, 2)
        batch[: len(part)] = torch.stack([crop for _, crop in part])
        yield [key for key, _ in part], batch


def _rows(names: Sequence[str], rows: Tensor, dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    """Rows as the store's arrays; WeightsError where one is not finite in its dtype."""
    with np.errstate(over="ignore"):
        values = rows[: len(names)].cpu().numpy().astype(dtype)
    if not np.isfinite(values).all():
        todo = "check the weights, or set regions.store_dtype and regions.dtype to float32"
        raise WeightsError(f"a feature is not finite in {dtype}", todo=todo)
    yield from zip(names, values, strict=True)


def assemble(plan: Plan[Crop, PostRegions], rows: Readable) -> Iterator[tuple[str, Objects]]:
    """(post id, objects) of every post, in order; features are read post by post."""
    for post_id, keys_ in plan.keys.items():
        yield post_id, Objects(np.stack(rows.get(keys_)), plan.details[post_id].regions)


def assemble_grids(plan: Plan[Crop, None], rows: Readable, net: FeatureNet) -> Iterator[tuple[str, Objects]]:
    """(digest, objects) of every distinct image: features float16 [R * R, D], cells row by row."""
    for key, crop in plan.items.items():
        (features,) = rows.get([key])
        assert crop.image is not None
        cells = cell_boxes(crop.image, net.transform, round(len(features) ** 0.5))
        yield crop.digest, Objects(features, tuple(Region("image", "", None, cell, WHOLE_SCORE) for cell in cells))


def cell_boxes(image: Image, transform: Transform, side: int) -> tuple[Box, ...]:
    """The part of an image under each of `side * side` cells of its center square."""
    edge = min(image.width, image.height) * transform.crop_px / transform.resize_px
    left, top = (image.width - edge) / 2, (image.height - edge) / 2
    x, y = ([start + edge * step / side for step in range(side + 1)] for start in (left, top))
    return tuple(
        clip((x[column], y[row], x[column + 1], y[row + 1]), image.width, image.height, 0)[0]
        for row in range(side)
        for column in range(side)
    )


def extract_objects(
    posts: Sequence[Post],
    boxes: Mapping[str, Sequence[Region]],
    labels: LabelSet,
    config: RegionsConfig,
    net: FeatureNet,
    folder: Path,
    store: Rows | None = None,
    *,
    phrases: Sequence[PostPhrases] = (),
) -> tuple[Iterator[tuple[str, Objects]], Tally]:
    """(post id, objects) of every post, in order, read when they are needed. `folder` holds the images.

    `phrases` are needed for `no_image: paper`. Raises ImageError where an image changed since ingest.
    """
    planned = plan(posts, boxes, labels, config, net, phrases)
    work = partial(compute, config=config, folder=folder.absolute())
    rows, tally = engine.run(planned, net, work, store)
    return assemble(planned, rows), tally


def extract_grids(
    posts: Sequence[Post], config: RegionsConfig, net: FeatureNet, folder: Path, store: Rows | None = None
) -> tuple[Iterator[tuple[str, Objects]], Tally]:
    """(digest, objects) of every distinct usable image. Errors as those of `extract_objects`."""
    planned = plan_grids(posts, net)
    work = partial(compute, config=config, folder=folder.absolute(), grid=True)
    rows, tally = engine.run(planned, net, work, store)
    return assemble_grids(planned, rows, net), tally


def bare_objects(
    posts: Sequence[Post],
    boxes: Mapping[str, Sequence[Region]],
    labels: LabelSet,
    config: RegionsConfig,
    *,
    phrases: Sequence[PostPhrases] = (),
) -> list[Objects]:
    """The posts' objects as `extract_objects` has them, but with features [M, 0]: there are none to use."""
    every = (found.regions for _, found in _all_regions(posts, boxes, labels, config, phrases))
    return [Objects(np.zeros((len(regions), 0), np.float32), regions) for regions in every]


def run(
    config: RegionsConfig,
    posts: Path,
    boxes: Path,
    images: Path,
    out: Path,
    store_root: Path,
    progress: Progress = silent,
    *,
    phrases: Path | None = None,
) -> Tally:
    """Publish the pack `out` (`grid: true`: with a pack of grids by image digest); `images`: the images' folder."""
    net, (grounded, before) = open_net(config), tables.stream_boxes(boxes)
    if config.no_image == "paper" and phrases is None:
        raise ConfigError("no_image: paper needs the posts' phrases", todo="give regions.run the phrases table")
    labels = tables.stream_posts(posts)[1]
    parsed = tables.stream_phrases(phrases)[0] if config.no_image == "paper" and phrases else ()
    cluster = cluster_of(config, partial(open_net, config), attrgetter("digest"), N_BATCHES * config.n_batch())
    boxes_of, phrases_of = tables.Lookup(grounded), tables.Lookup((one.post_id, one) for one in parsed)

    def plans() -> Iterator[Plan[Crop, PostRegions]]:
        for chunk in tables.batched(tables.stream_posts(posts)[0], engine.CHUNK[config.engine]):
            own = boxes_of.take(post.id for post in chunk if any(image.ok for image in post.images))
            yield plan(chunk, own, labels, config, net, list(phrases_of.take(post.id for post in chunk).values()))

    def grid_plans() -> Iterator[Plan[Crop, None]]:
        earlier: set[str] = set()  # a pack holds an image once
        for chunk in tables.batched(tables.stream_posts(posts)[0], engine.CHUNK[config.engine]):
            planned = plan_grids(chunk, net)
            yield replace(planned, items={key: crop for key, crop in planned.items.items() if key not in earlier})
            earlier.update(planned.items)

    regions_note = note(config, net.identity, synthetic=False)
    provenance = {name: before[name] for name in ("phrases", "ground") if name in before} | {"regions": regions_note}
    synthetic, words = any(part["synthetic"] for part in provenance.values()), labels.general_words
    meta = PackMeta(net.dim, config.store_dtype, config.n_buckets, words, synthetic, provenance)
    work, n_posts = partial(compute, config=config, folder=images.absolute()), tables.n_rows(posts)
    with Store(store_root.absolute() / STORE, producer=net.identity) as store:
        chunked = ChunkedRun(plans(), n_posts, net, work, store, cluster=cluster, progress=progress)
        grids = ChunkedRun(grid_plans(), n_posts, net, partial(work, grid=True), store, cluster=cluster)
        objects = chain.from_iterable(assemble(*planned) for planned in chunked)
        cells = chain.from_iterable(assemble_grids(*planned, net) for planned in grids)
        grid = PackMeta(net.dim, GRID_DTYPE, config.n_buckets, (), provenance={"regions": regions_note}), cells
        write_pack(out, meta, objects, grid=grid if config.grid else None)
    return chunked.tally + grids.tally
