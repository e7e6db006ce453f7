"""From posts to the objects of the lattice in memory: parser, grounder and backbone with their settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from cache.packs import Objects, cells_of
from pipeline.engine import Part
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import Grounder
from pipeline.grounding.registry import open_grounder
from pipeline.grounding.stage import ground_posts
from pipeline.phrases.config import PhrasesConfig, open_parser
from pipeline.phrases.parser import Parser
from pipeline.phrases.stage import find_phrases
from pipeline.regions.config import RegionsConfig, open_net
from pipeline.regions.stage import GRID_DTYPE, bare_objects, extract_grids, extract_objects
from schema.errors import PackError, WeightsError
from schema.labels import LabelSet
from schema.records import Post
from vision.backbones import FeatureNet

# What the objects are: images, general words and phrases with features, the same without them, or cells of the images
Kind = Literal["features", "boxes", "grid"]
STAGES: dict[Kind, tuple[str, ...]] = {
    "features": ("phrases", "ground", "regions"),
    "boxes": ("phrases", "ground", "regions"),
    "grid": ("regions",),
}


@dataclass
class FeaturePipeline:
    """The settings of the stages. A part is opened when it is first needed, and loaded for the first row."""

    phrases: PhrasesConfig
    ground: GroundConfig
    regions: RegionsConfig
    kind: Kind = "features"

    @cached_property
    def parser(self) -> Parser:
        return open_parser(self.phrases)

    @cached_property
    def grounder(self) -> Grounder:
        return open_grounder(self.ground)

    @cached_property
    def net(self) -> FeatureNet:
        return open_net(self.regions)

    @classmethod
    def of_pack(
        cls,
        provenance: Mapping[str, Any],
        kind: Kind = "features",
        *,
        allow_synthetic: bool = False,
        batch: int | None = None,
    ) -> Self:
        """The pipeline that made a pack (`grid`: the pack's grid); `batch`: crops of a forward pass.

        Raises PackError if the provenance names no stages, WeightsError if a part is not the one that made the pack.
        """
        if missing := [name for name in STAGES[kind] if name not in provenance]:
            todo, found = "use `fmit evaluate --pack` with such features", f"no {', '.join(missing)}"
            raise PackError("the run's features were not computed by FMIT's stages", found=found, todo=todo)
        settings = {name: provenance[name]["config"] for name in STAGES[kind]}
        phrases = PhrasesConfig.checked(settings.get("phrases", {}), "phrases")
        ground = {**settings.get("ground", {}), "allow_synthetic": allow_synthetic}
        regions = RegionsConfig.checked({**settings["regions"], "batch": batch}, "regions")
        pipeline = cls(phrases, GroundConfig.checked(ground, "ground"), regions, kind)
        parts: dict[str, Part] = {"phrases": pipeline.parser, "ground": pipeline.grounder} if kind != "grid" else {}
        if kind != "boxes":
            parts["regions"] = pipeline.net
        for stage, part in parts.items():
            own, expected = part.identity, provenance[stage]["identity"]
            if names := [name for name in {**expected, **own} if own.get(name) != expected.get(name)]:
                what = f"the {stage} model is not the one that the run was trained with"
                found = ", ".join(f"{name} {own.get(name)} instead of {expected.get(name)}" for name in names)
                raise WeightsError(what, found=found, todo="use the same weights and version, or train on a new pack")
        return pipeline

    def objects(self, posts: Sequence[Post], labels: LabelSet, images: Path) -> list[Objects]:
        """The objects of each post, in order. `images` is the folder of the images."""
        if self.kind == "grid":
            cells = dict(extract_grids(posts, self.regions, self.net, images)[0])
            return [cells_of(post, cells.__getitem__, self.net.dim, GRID_DTYPE) for post in posts]
        parsed, _ = find_phrases(posts, self.phrases, self.parser)
        boxes, _ = ground_posts(posts, parsed, labels, self.ground, self.grounder, images)
        if self.kind == "boxes":
            return bare_objects(posts, boxes, labels, self.regions, phrases=parsed)
        by_post = dict(extract_objects(posts, boxes, labels, self.regions, self.net, images, phrases=parsed)[0])
        return [by_post[post.id] for post in posts]
