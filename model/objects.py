"""Which objects of a post the lattice gets: the settings of Table 5 and the controls beside every figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cache.packs import Objects, Pack
from model.config import TrainConfig
from model.lattice import object_span
from schema.errors import PackError
from schema.records import SOURCES, Post, Region, Source

KEPT: dict[str, tuple[Source, ...]] = {
    "all": SOURCES,
    "grid": SOURCES,  # the cells of a grid pack, whatever they are called
    "phrases": ("phrase",),
    "general": ("general",),
    "image": ("image",),
    "none": (),
}
ObjectSource = Callable[[Post], Objects]


@dataclass(frozen=True)
class FromPack:
    """Reads a post's objects from a pack; a class and no closure, since DataLoader workers receive it."""

    pack: Pack

    def __call__(self, post: Post) -> Objects:
        return self.pack.read(post.id)


@dataclass(frozen=True)
class Given:
    """Objects that are in memory, by post id."""

    objects: Mapping[str, Objects]

    def __call__(self, post: Post) -> Objects:
        return self.objects[post.id]


def no_objects(post: Post) -> Objects:
    """For approaches that read text alone, where no pack is given."""
    return Objects(np.zeros((0, 1), np.float32), ())


def check_pack(config: TrainConfig, pack: Pack | None, posts: Sequence[Post]) -> None:
    """Raises PackError where a pack is missing, lacks posts, or is not of the kind that the setting needs."""
    if pack is None:
        if config.objects != "none":
            raise PackError("this setting reads objects", found="no pack", todo="give the dataset's pack")
        return
    missing = [post.id for post in posts if post.id not in pack]
    if missing:
        raise PackError(
            f"{len(missing)} post(s) are not in the pack",
            where=str(pack.folder),
            found=", ".join(missing[:3]),
            todo="run the stage regions for this dataset again",
        )
    kind = str(pack.meta.provenance.get("kind", "boxes"))
    for wanted, name in ((config.objects, "grid"), (config.control, "random-boxes")):
        if wanted == name != kind:
            raise PackError(f"the setting {name!r} needs a pack of that kind", where=str(pack.folder), found=kind)


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
        kept = kept[: config.max_objects]
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
