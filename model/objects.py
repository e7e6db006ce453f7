"""Which objects of a post the lattice gets: the object sets of Table 5, the controls, and the cap."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from cache.packs import Objects, Pack, cells_of
from model.config import TrainConfig
from schema.errors import PackError
from schema.lattice import object_span, within_cap
from schema.records import SOURCES, Post, Region, Source

SOURCES_OF: dict[str, tuple[Source, ...]] = {  # by TrainConfig.objects
    "all": SOURCES,
    "grid": ("image",),  # cells are parts of the image
    "grounded": ("general", "phrase"),  # no whole image
    "phrases": ("phrase",),
    "general": ("general",),
    "image": ("image",),
    "none": (),
}
ObjectSource = Callable[[Post], Objects]


@dataclass(frozen=True)
class FromPack:
    """A post's objects in a pack, or its images' cells in a `grid`. A class, because DataLoader workers pickle it."""

    pack: Pack
    grid: bool = False

    def __call__(self, post: Post) -> Objects:
        if self.grid:
            return cells_of(post, self.pack.read, self.pack.meta.dim, self.pack.meta.dtype)
        return self.pack.read(post.id)


@dataclass(frozen=True)
class FromMemory:
    """Objects in memory, by post id."""

    objects: Mapping[str, Objects]

    def __call__(self, post: Post) -> Objects:
        return self.objects[post.id]


def no_objects(post: Post) -> Objects:
    """For approaches that read text only and have no pack."""
    return Objects(np.zeros((0, 1), np.float32), ())


def open_pack(config: TrainConfig, path: Path | None) -> Pack | None:
    """The pack at `path`, or its grid if `config` reads it; None if `config` reads no objects and no pack exists."""
    if config.objects == "none" and (path is None or not path.exists()):
        return None
    if path is None:
        raise PackError("this approach needs objects", found="no pack", todo="pass the dataset's pack")
    if config.objects != "grid":
        return Pack(path)
    grid = Pack(path).grid
    if grid is None:
        todo = "set regions.grid: true for this dataset and run its regions stage"
        raise PackError("this approach needs the 7x7 grid", where=str(path), found="a pack without a grid", todo=todo)
    return grid


def source_of(config: TrainConfig, pack: Pack | None, posts: Sequence[Post]) -> ObjectSource:
    """Where the objects of `posts` come from; raises PackError if the pack lacks posts."""
    if pack is None:
        return no_objects
    is_grid = config.objects == "grid"
    names = [image.digest for post in posts for image in post.images if image.ok] if is_grid else [p.id for p in posts]
    missing = [name for name in names if name not in pack]
    if missing:
        what = f"{len(missing)} {'image' if is_grid else 'post'}(s) are not in the pack"
        todo = "run the regions stage for this dataset again"
        raise PackError(what, where=str(pack.folder), found=", ".join(missing[:3]), todo=todo)
    return FromPack(pack, is_grid)


class ObjectPlan(NamedTuple):
    """The objects that a post contributes to the lattice, before any feature is read."""

    owner: int | None  # row of the post whose features are used; None: zeros
    indices: tuple[int, ...]  # of the owner's objects
    spans: tuple[tuple[int, int], ...]  # (head, tail)
    cut: tuple[Source, ...] = ()  # sources of the objects that the cap, or truncation of the post's words, removes


def plan_objects(
    posts: Sequence[Post], objects: ObjectSource, n_words: Sequence[int], config: TrainConfig, seed: int
) -> list[ObjectPlan]:
    """The plan of each post. `n_words`: words with a vector, of each post; `seed`: of the "shuffled" control."""
    if config.control == "empty":  # ours: one whole-image object of zeros; any constant carries no information
        return [ObjectPlan(None, (0,), ((1, n),)) for n in n_words]
    sources = SOURCES_OF[config.objects]
    regions = [objects(post).regions for post in posts]
    selected = [[index for index, region in enumerate(own) if region.source in sources] for own in regions]
    donors = donor_permutation(len(posts), seed) if config.control == "shuffled" else range(len(posts))
    plans = []
    for row, post in enumerate(posts):
        own, donor = [regions[row][index] for index in selected[row]], donors[row]
        included = _included(own, n_words[row], config)
        spans = [object_span(own[index].span, post.n_words) for index in included]
        matches = list(range(len(own)))
        if donor != row:
            matches = match_donor(own, [regions[donor][index] for index in selected[donor]])
        plan = ObjectPlan(
            owner=donor if len(matches) == len(own) else None,
            indices=tuple(selected[donor][matches[index]] if matches else 0 for index in included),
            spans=tuple((head, min(tail, n_words[row])) for head, tail in spans),
            cut=tuple(region.source for index, region in enumerate(own) if index not in included),
        )
        plans.append(plan)
    return plans


def _included(own: Sequence[Region], n_words: int, config: TrainConfig) -> list[int]:
    """Indices of the objects whose words have a vector, within the cap: of the post, or of each image of a grid."""
    visible = [index for index, region in enumerate(own) if region.span is None or region.span.start < n_words]
    if config.objects != "grid":
        return [visible[place] for place in within_cap([own[index].source for index in visible], config.max_objects)]
    by_image: dict[int, list[int]] = {}
    for index in visible:
        by_image.setdefault(own[index].image_index, []).append(index)
    return sorted(index for cells in by_image.values() for index in cells[: config.max_objects])


def match_donor(own: Sequence[Region], donor: Sequence[Region]) -> list[int]:
    """For each own object the index of the donor's object whose features it takes; empty if the donor has none.

    A post keeps the number, order and spans of its objects. Its k-th object of a source takes the donor's k-th object
    of that source, modulo their number, or the donor's first object if it has none of that source.
    """
    if not donor:
        return []
    candidates = {
        source: cycle([index for index, region in enumerate(donor) if region.source == source] or [0])
        for source in SOURCES
    }
    return [next(candidates[region.source]) for region in own]


def donor_permutation(n_posts: int, seed: int) -> list[int]:
    """The post whose images each post gets: one random cycle, so that no post (of two or more) keeps its own."""
    order = torch.randperm(n_posts, generator=torch.Generator().manual_seed(seed)).tolist()
    return [donor for _, donor in sorted(zip(order, order[1:] + order[:1], strict=True))]
