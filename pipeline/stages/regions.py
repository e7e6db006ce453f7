"""Stage regions: posts and boxes to the pack that training reads, and the grid where it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cache import tables
from cache.packs import Objects, PackMeta, write_pack
from cache.store import Store
from cache.tables import Posts
from pipeline import recipes
from pipeline.engine import Progress, Tally, silent
from pipeline.ray_engine import spread
from pipeline.regions import grid
from pipeline.regions.config import RegionsConfig, build_net
from pipeline.regions.extract import extract_objects
from pipeline.stages.provenance import note
from schema.errors import ConfigError
from schema.records import PostPhrases
from vision.resnet import FeatureNet

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
    provenance["regions"] = note(config, net.identity, toy=net.toy)
    return PackMeta(
        dim=net.dim,
        dtype=config.store_dtype,
        n_buckets=config.n_buckets,
        general_words=found.labels.general_words,
        toy=any(part["toy"] for part in provenance.values()),
        provenance=provenance,
    )


def _grid(
    config: RegionsConfig, net: FeatureNet, found: Posts, images: Path, store: Store, meta: PackMeta
) -> tuple[Tally, tuple[PackMeta, Iterator[tuple[str, Objects]]]]:
    rows = spread(config, store, recipes.of_regions(config, images, grid=True), net.for_grid().identity)
    cells, tally = grid.extract_grids(found.posts, config, net, images, rows)
    regions = {"regions": note(config, net.for_grid().identity, toy=net.toy)}
    return tally, (PackMeta(net.dim, grid.DTYPE, config.n_buckets, (), net.toy, regions), cells)
