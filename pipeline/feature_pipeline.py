"""The way from posts to objects in memory, rebuilt from what a pack says of how it was made: for prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.packs import Objects, cells_of
from pipeline.engine import Rows
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import Grounder
from pipeline.grounding.registry import build_grounder
from pipeline.grounding.stage import ground_posts
from pipeline.phrases.config import PhrasesConfig
from pipeline.phrases.parser import Parser
from pipeline.phrases.registry import build_parser
from pipeline.phrases.stage import find_phrases
from pipeline.regions.config import RegionsConfig, build_net
from pipeline.regions.stage import GRID_DTYPE, bare_objects, extract_grids, extract_objects
from schema.errors import PackError, WeightsError
from schema.labels import LabelSet
from schema.records import Grounded, Post, PostPhrases
from vision.backbones import FeatureNet

STAGES = ("phrases", "ground", "regions")


@dataclass(frozen=True)
class BoxChain:
    """Parser and grounder as they were when a pack was made; `objects` runs them over posts in memory.

    Its objects have no features: for runs that compute those of crops, by a network of their own.
    """

    phrases: PhrasesConfig
    ground: GroundConfig
    regions: RegionsConfig
    parser: Parser
    grounder: Grounder

    def objects(
        self, posts: Sequence[Post], labels: LabelSet, images: Path, stores: Mapping[str, Rows] | None = None
    ) -> list[Objects]:
        """The objects of each post, in order. `stores`, by stage, remember rows; none: nothing is kept."""
        parsed, boxes = self._grounded(posts, labels, images, stores or {})
        return bare_objects(posts, boxes, labels, self.regions, phrases=parsed)

    def _grounded(
        self, posts: Sequence[Post], labels: LabelSet, images: Path, rows: Mapping[str, Rows]
    ) -> tuple[Sequence[PostPhrases], Sequence[Grounded]]:
        parsed, _ = find_phrases(posts, self.phrases, self.parser, rows.get("phrases"))
        boxes, _ = ground_posts(posts, parsed, labels, self.ground, self.grounder, images, rows.get("ground"))
        return parsed, boxes


@dataclass(frozen=True)
class Chain(BoxChain):
    """Parser, grounder and network as they were when a pack was made; `objects` runs them over posts in memory."""

    net: FeatureNet

    def objects(
        self, posts: Sequence[Post], labels: LabelSet, images: Path, stores: Mapping[str, Rows] | None = None
    ) -> list[Objects]:
        """As BoxChain's, with features."""
        rows = stores or {}
        parsed, boxes = self._grounded(posts, labels, images, rows)
        found, _ = extract_objects(
            posts, boxes, labels, self.regions, self.net, images, rows.get("regions"), phrases=parsed
        )
        return [objects for _, objects in found]


@dataclass(frozen=True)
class GridChain:
    """The network as it was when a pack's grid was made: a post's objects are the cells of its pictures."""

    regions: RegionsConfig
    net: FeatureNet

    def objects(self, posts: Sequence[Post], labels: LabelSet, images: Path) -> list[Objects]:
        """The cells of each post, in order; `labels` are of no consequence here."""
        cells = dict(extract_grids(posts, self.regions, self.net, images)[0])
        return [cells_of(post, cells.__getitem__, self.net.dim, GRID_DTYPE) for post in posts]


def build_grid_chain(
    provenance: Mapping[str, Any], *, allow_synthetic: bool = False, batch: int | None = None
) -> GridChain:
    """The network that the provenance of a pack's grid names; arguments and errors as of `build_chain`."""
    if "regions" not in provenance:
        todo = "give predict a pack with the posts' features instead of pictures"
        raise PackError("the run's features were not made by these stages", found="no regions", todo=todo)
    regions = _regions(provenance, allow_synthetic, batch)
    net = build_net(regions)
    _check("regions", net.for_grid().identity, provenance)
    return GridChain(regions, net)


def build_box_chain(
    provenance: Mapping[str, Any], *, allow_synthetic: bool = False, batch: int | None = None
) -> BoxChain:
    """Parser and grounder that a pack's provenance names; arguments and errors as of `build_chain`.

    The network's weights need not be here.
    """
    lost = [name for name in STAGES if name not in provenance]
    if lost:
        todo = "give predict a pack with the posts' features instead of pictures"
        raise PackError("the run's features were not made by these stages", found=f"no {', '.join(lost)}", todo=todo)
    phrases = PhrasesConfig.checked(provenance["phrases"]["config"], "phrases")
    ground = GroundConfig.checked({**provenance["ground"]["config"], "allow_synthetic": allow_synthetic}, "ground")
    regions = _regions(provenance, allow_synthetic, batch)
    chain = BoxChain(phrases, ground, regions, build_parser(phrases), build_grounder(ground))
    _check("phrases", chain.parser.identity, provenance)
    _check("ground", chain.grounder.identity, provenance)
    return chain


def build_chain(provenance: Mapping[str, Any], *, allow_synthetic: bool = False, batch: int | None = None) -> Chain:
    """The parts that a pack's provenance names.

    `batch`: crops of a forward pass. Raises PackError where a stage is not named (features made elsewhere),
    WeightsError where a part is not there or is not the one that made the pack.
    """
    boxes = build_box_chain(provenance, allow_synthetic=allow_synthetic, batch=batch)
    net = build_net(boxes.regions)
    _check("regions", net.identity, provenance)
    return Chain(boxes.phrases, boxes.ground, boxes.regions, boxes.parser, boxes.grounder, net)


def _regions(provenance: Mapping[str, Any], allow_synthetic: bool, batch: int | None) -> RegionsConfig:
    values = {**provenance["regions"]["config"], "allow_synthetic": allow_synthetic, "batch": batch}
    return RegionsConfig.checked(values, "regions")


def _check(name: str, found: Mapping[str, str], provenance: Mapping[str, Any]) -> None:
    wanted = provenance[name]["identity"]
    if dict(found) != dict(wanted):
        raise WeightsError(
            f"the {name} part is not the one that the run was trained with",
            found=_difference(found, wanted),
            todo="use the same weights and version, or train again on a pack of today's",
        )


def _difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    names = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    return ", ".join(f"{name} {found.get(name)} instead of {wanted.get(name)}" for name in names)
