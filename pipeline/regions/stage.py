"""Which objects a post has, in the lattice's order: per picture all of it and one a general word, then phrases.

Features of every region: each picture decoded once for all its missing boxes, crops of many in one fixed batch.

N crops of a pass, C side of a crop in pixels, D floats of a feature.

The grid of the ablation: the cells of each picture's last convolution, once for every distinct picture.

R cells a side (7 at 224 pixels), D floats of a feature.

Stage regions: posts and boxes to the pack that training reads, and the grid where it is asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache import keys, tables
from cache.packs import Objects, PackMeta, write_pack
from cache.store import Store
from cache.tables import Posts
from pipeline import engine, recipes
from pipeline.engine import Memory, Progress, Rows, Tally, silent
from pipeline.provenance import note, refuse_real_images
from pipeline.ray_engine import spread
from pipeline.regions.config import RegionsConfig, build_net
from schema.errors import ConfigError, DataError, WeightsError
from schema.labels import LabelSet
from schema.records import Box, Grounded, Image, Phrase, Post, PostPhrases, Region, Span
from vision import images
from vision.backbones import TOY, FeatureNet
from vision.boxes import clip
from vision.crops import Transform, crop_tensor

WHOLE_SCORE = 1.0  # nobody chose the whole picture
EMPTY_SCORE = 0.0  # nothing was found on the empty image


def post_regions(
    post: Post,
    boxes: Sequence[Grounded],
    labels: LabelSet,
    config: RegionsConfig,
    phrases: Sequence[Phrase] = (),
) -> tuple[Region, ...]:
    """The post's objects. `boxes` are those of this post; `phrases` are asked for `no_image: paper` alone.

    Pictures that are not ok have no objects; a post without an ok one has the empty image. Raises DataError where a
    general word has no box: the boxes were made for another label set.
    """
    shown = [index for index, image in enumerate(post.images) if image.ok]
    if not shown:
        return _empty(labels, phrases, config)
    general = {(one.box.image_index, one.text): one for one in boxes if one.source == "general"}
    regions: list[Region] = []
    for index in shown:
        image = post.images[index]
        regions.append(Region("image", "", None, Box(0, 0, image.width, image.height, index), WHOLE_SCORE))
        for word in labels.general_words:
            if (index, word) not in general:
                raise DataError(
                    f"no box for the general word {word!r}",
                    where=f"post {post.id}, image {index}",
                    todo="run the ground stage again",
                )
            regions.append(_region(general[index, word]))
    found = {one.span: one for one in boxes if one.source == "phrase" and one.span is not None}
    return (*regions, *(_region(found[span]) for span in kept_spans(list(found), config.max_phrases)))


def kept_spans(spans: Sequence[Span], cap: int | None) -> list[Span]:
    """At most `cap` spans in order; the longest are left out, of equals the last."""
    kept = sorted(spans, key=lambda span: (span.end - span.start, span))[:cap]
    return sorted(kept)


def _region(one: Grounded) -> Region:
    return Region(one.source, one.text, one.span, one.box, one.score)


def _empty(labels: LabelSet, phrases: Sequence[Phrase], config: RegionsConfig) -> tuple[Region, ...]:
    whole = Region("image", "", None, None, EMPTY_SCORE)
    if config.no_image == "empty":
        return (whole,)
    texts = {phrase.span: phrase.text for phrase in phrases}
    return (
        whole,
        *(Region("general", word, None, None, EMPTY_SCORE) for word in labels.general_words),
        *(
            Region("phrase", texts[span], span, None, EMPTY_SCORE)
            for span in kept_spans(list(texts), config.max_phrases)
        ),
    )


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

    `phrases` are needed for `no_image: paper`. Raises SyntheticError where a synthetic net would see pictures that nobody of us
    drew, ImageError where a picture is no longer what ingest saw.
    """
    if net.synthetic and not config.allow_synthetic:
        refuse_real_images(posts, config.net)
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

    Of no width rather than zeros: nothing can take them for features. Raises SyntheticError as `extract_objects` does.
    """
    if config.net == TOY and not config.allow_synthetic:
        refuse_real_images(posts, config.net)
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


GRID_DTYPE = "float16"  # 4,096 posts' grids of ResNet-152 take 1.6 GB in twice that


def extract_grids(
    posts: Sequence[Post],
    config: RegionsConfig,
    net: FeatureNet,
    images_folder: Path,
    store: Rows | None = None,
    progress: Progress = engine.silent,
) -> tuple[Iterator[tuple[str, Objects]], Tally]:
    """(digest, objects) of every distinct ok picture: features float16 [R * R, D], cells row by row.

    `net` computes crops; it says itself how it sees a whole picture's grid. Raises SyntheticError and ImageError as
    `extract_objects` does.
    """
    if net.synthetic and not config.allow_synthetic:
        refuse_real_images(posts, config.net)
    net = net.for_grid()
    rows = store if store is not None else Memory()
    pictures = {image.digest: image for post in posts for image in post.images if image.ok}
    crops = [Crop(image, Box(0, 0, image.width, image.height)) for image in pictures.values()]
    name = net_key(net)
    wanted = {row_key(crop, name, GRID_DTYPE, "grid"): crop for crop in crops}
    half = config.model_copy(update={"store_dtype": GRID_DTYPE})
    compute = partial(compute_rows, forward=net.grid, net=net, config=half, folder=images_folder)
    fill = partial(engine.stream, rows, wanted, compute, stage="grid", progress=progress)
    tally = fill()
    return _grid_objects(wanted, partial(engine.read, rows, again=fill), net), tally


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


def _grid_objects(
    wanted: dict[str, Crop], read: Callable[[list[str]], list[np.ndarray]], net: FeatureNet
) -> Iterator[tuple[str, Objects]]:
    for key, crop in wanted.items():
        (features,) = read([key])
        assert crop.image is not None
        cells = cell_boxes(crop.image, net.transform, round(len(features) ** 0.5))
        yield crop.image.digest, Objects(features, tuple(Region("image", "", None, cell, 1.0) for cell in cells))


PARTS = ("phrases", "ground")  # what the boxes' meta tells of the stages before


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
    """Publish the pack `out`; with `grid: true` there is a pack of cells by picture digest in it.

    `images` is the folder of the pictures; `phrases` is read for `no_image: paper` alone.
    """
    net = build_net(config)
    found, (chosen, before) = tables.read_posts(posts), tables.read_boxes(boxes)
    parsed = _parsed(config, phrases)
    meta = _meta(config, net, found, before)
    with Store.open(store_root.absolute() / "regions", producer=net.identity) as store:
        rows = spread(config, store, recipes.of_regions(config, images), net.identity)
        objects, tally = extract_objects(
            found.posts, chosen, found.labels, config, net, images, rows, progress, phrases=parsed
        )
        cells = None
        if config.grid:
            more, cells = _grid(config, net, found, images, store, meta)
            tally += more
        write_pack(out, meta, objects, grid=cells)
    return tally


def _parsed(config: RegionsConfig, phrases: Path | None) -> list[PostPhrases]:
    if config.no_image != "paper":
        return []
    if phrases is None:
        raise ConfigError("no_image: paper needs the posts' phrases", todo="give regions.run the phrases table")
    return tables.read_phrases(phrases)[0]


def _meta(config: RegionsConfig, net: FeatureNet, found: Posts, before: Mapping[str, Any]) -> PackMeta:
    provenance = {name: before[name] for name in PARTS if name in before}
    provenance["regions"] = note(config, net.identity, synthetic=net.synthetic)
    return PackMeta(
        dim=net.dim,
        dtype=config.store_dtype,
        n_buckets=config.n_buckets,
        general_words=found.labels.general_words,
        synthetic=any(part["synthetic"] for part in provenance.values()),
        provenance=provenance,
    )


def _grid(
    config: RegionsConfig, net: FeatureNet, found: Posts, images: Path, store: Store, meta: PackMeta
) -> tuple[Tally, tuple[PackMeta, Iterator[tuple[str, Objects]]]]:
    rows = spread(config, store, recipes.of_regions(config, images, grid=True), net.for_grid().identity)
    cells, tally = extract_grids(found.posts, config, net, images, rows)
    regions = {"regions": note(config, net.for_grid().identity, synthetic=net.synthetic)}
    return tally, (PackMeta(net.dim, GRID_DTYPE, config.n_buckets, (), net.synthetic, regions), cells)
