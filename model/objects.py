"""Which objects of a post the lattice gets: the settings of Table 5 and the controls beside every figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cache.packs import Objects, Pack, cells_of
from model.config import TrainConfig
from model.interaction import object_span
from schema.errors import PackError
from schema.records import SOURCES, Post, Region, Source

KEPT: dict[str, tuple[Source, ...]] = {
    "all": SOURCES,
    "grid": ("image",),  # cells are pieces of the image
    "grounded": ("general", "phrase"),  # no whole image
    "phrases": ("phrase",),
    "general": ("general",),
    "image": ("image",),
    "none": (),
}
RANDOM_BOXES, RANDOM_GROUNDER = "random-boxes", "random"
ObjectSource = Callable[[Post], Objects]


@dataclass(frozen=True)
class FromPack:
    """Reads a post's objects from a pack; a class and no closure, since DataLoader workers receive it."""

    pack: Pack

    def __call__(self, post: Post) -> Objects:
        return self.pack.read(post.id)


@dataclass(frozen=True)
class FromGrid:
    """The cells of a post's pictures, from a pack that goes by their digests; none for a post without a picture."""

    pack: Pack

    def __call__(self, post: Post) -> Objects:
        return cells_of(post, self.pack.read, self.pack.meta.dim, self.pack.meta.dtype)


@dataclass(frozen=True)
class Given:
    """Objects that are in memory, by post id."""

    objects: Mapping[str, Objects]

    def __call__(self, post: Post) -> Objects:
        return self.objects[post.id]


def no_objects(post: Post) -> Objects:
    """For approaches that read text alone, where no pack is given."""
    return Objects(np.zeros((0, 1), np.float32), ())


def open_pack(config: TrainConfig, path: Path | None) -> Pack | None:
    """The pack at `path`, or the grid in it where the setting reads that; None where text is enough.

    Raises PackError where the setting needs a pack that is not there.
    """
    if config.objects == "none" and (path is None or not path.exists()):
        return None
    if path is None:
        raise PackError("this setting reads objects", found="no pack", todo="give the dataset's pack")
    if config.objects != "grid":
        return Pack.open(path)
    grid = Pack.open(path).grid
    if grid is None:
        todo = "set regions.grid: true for this dataset and run its regions stage"
        raise PackError("this setting reads the 7x7 grid", where=str(path), found="a pack without it", todo=todo)
    return grid


def source_of(config: TrainConfig, pack: Pack | None, posts: Sequence[Post]) -> ObjectSource:
    """Where the setting's objects come from; raises PackError for a pack that lacks posts or is of another kind."""
    if pack is None:
        return no_objects
    is_grid = config.objects == "grid"
    needed = [image.digest for post in posts for image in post.images if image.ok] if is_grid else [p.id for p in posts]
    missing = [name for name in needed if name not in pack]
    if missing:
        raise PackError(
            f"{len(missing)} {'picture' if is_grid else 'post'}(s) are not in the pack",
            where=str(pack.folder),
            found=", ".join(missing[:3]),
            todo="run the stage regions for this dataset again",
        )
    grounder = pack.meta.provenance.get("ground", {}).get("config", {}).get("grounder", "unknown")
    if config.control == RANDOM_BOXES and grounder != RANDOM_GROUNDER:
        todo = f"make a dataset with ground: {{grounder: {RANDOM_GROUNDER}}}"
        raise PackError("this control needs boxes drawn at random", where=str(pack.folder), found=grounder, todo=todo)
    return FromGrid(pack) if is_grid else FromPack(pack)


@dataclass(frozen=True)
class Plan:
    """A post's place in the lattice: whose features (a row of the dataset; None: zeros), which of them, and spans.

    `n_cut` objects were beyond the cap, or stand at words that have no vector.
    """

    owner: int | None
    indices: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]  # (head, tail)
    n_cut: int = 0


def plans(
    posts: Sequence[Post], objects: ObjectSource, n_words: Sequence[int], config: TrainConfig, seed: int
) -> list[Plan]:
    """The plan of each post; `n_words` are those with a vector; `seed` draws who lends whom (control "shuffled")."""
    if config.control == "empty":  # ours: one whole-image object of zeros; any constant tells as little
        return [Plan(None, (0,), ((1, n),)) for n in n_words]
    regions = [objects(post).regions for post in posts]
    wanted = [[i for i, region in enumerate(one) if region.source in KEPT[config.objects]] for one in regions]
    lender = lenders(len(posts), seed) if config.control == "shuffled" else range(len(posts))
    found = []
    for row, post in enumerate(posts):
        own = [regions[row][i] for i in wanted[row]]
        kept = [i for i, region in enumerate(own) if region.span is None or region.span.start < n_words[row]]
        kept = capped(kept, own, config)
        spans = [object_span(own[i].span, post.n_words) for i in kept]
        lent, owner = wanted[lender[row]], lender[row]
        places = exchanged(own, [regions[owner][i] for i in lent]) if owner != row else list(range(len(own)))
        found.append(
            Plan(
                owner=owner if len(places) == len(own) else None,
                indices=tuple(lent[places[i]] if places else 0 for i in kept),
                spans=tuple((head, min(tail, n_words[row])) for head, tail in spans),
                n_cut=len(own) - len(kept),
            )
        )
    return found


def capped(kept: Sequence[int], own: Sequence[Region], config: TrainConfig) -> list[int]:
    """The first `max_objects` of a post, or of each of its pictures where they are cells of the grid."""
    if config.objects != "grid":
        return list(kept[: config.max_objects])
    count: Counter[int] = Counter()
    found = []
    for i in kept:
        box = own[i].box
        picture = box.image_index if box else 0
        if count[picture] < config.max_objects:
            found.append(i)
        count[picture] += 1
    return found


def exchanged(own: Sequence[Region], lent: Sequence[Region]) -> list[int]:
    """For each own object the lent one whose features it takes; empty where nothing is lent.

    Places, order and number of a post's objects stay. The k-th object of a source takes the lender's k-th of that
    source: round again where the lender has fewer, its first object where it has none of that source.
    """
    offered: dict[str, list[int]] = {source: [] for source in SOURCES}
    for index, region in enumerate(lent):
        offered[region.source].append(index)
    taken: list[int] = []
    count = dict.fromkeys(SOURCES, 0)
    for region in own if lent else ():
        choice = offered[region.source] or [0]
        taken.append(choice[count[region.source] % len(choice)])
        count[region.source] += 1
    return taken


def lenders(n_posts: int, seed: int) -> list[int]:
    """Who lends post i its pictures: one random cycle through all posts, so nobody (of two or more) keeps its own."""
    order = torch.randperm(n_posts, generator=torch.Generator().manual_seed(seed)).tolist()
    found = [0] * n_posts
    for place, post in enumerate(order):
        found[post] = order[(place + 1) % n_posts]
    return found
