"""How a stage's missing rows are computed in another process or machine: small values that can be pickled.

The parts (parser, grounder, network) are built there, from the same configuration, on that machine's device. Modules
of a stage are named by strings: an import would make each stage's code a dependency of all three stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import engine

if TYPE_CHECKING:
    from pipeline.grounding.config import GroundConfig
    from pipeline.phrases.config import PhrasesConfig
    from pipeline.regions.config import RegionsConfig


Compute = Callable[[dict[str, Any]], Iterable[tuple[str, Any]]]
N_VIEWS = 256  # posts of a task: what a parser gets at once
N_QUERIES = 128  # of a task: a dozen pictures with what is asked of them
N_BATCHES = 8  # crops of a task in batches: its last batch is padded


@dataclass(frozen=True)
class Built:
    """Parts made from a recipe: what their numbers depend on, and the function from missing items to (key, row)."""

    identity: Mapping[str, str]
    compute: Compute


@dataclass(frozen=True)
class Recipe:
    """`build` runs where rows are computed; items with equal `group` go into one task, of `n_items` or a few more."""

    stage: str
    build: Callable[[], Built]
    group: Callable[[Any], str]
    n_items: int


def of_phrases(config: PhrasesConfig) -> Recipe:
    """Views to trees."""
    return Recipe("phrases", partial(_phrases, config), _by_itself, N_VIEWS)


def of_boxes(config: GroundConfig, images: Path) -> Recipe:
    """Queries to boxes; a picture's queries stay together, so that it is decoded and passed once."""
    return Recipe("ground", partial(_boxes, config, images.absolute()), _picture_asked, N_QUERIES)


def of_regions(config: RegionsConfig, images: Path, *, grid: bool = False) -> Recipe:
    """Crops to features, or whole pictures to grids; a picture's crops stay together."""
    stage = "grid" if grid else "regions"
    return Recipe(stage, partial(_regions, config, images.absolute(), grid), _picture_cut, N_BATCHES * config.n_batch())


def _phrases(config: PhrasesConfig) -> Built:
    extract, registry = import_module("pipeline.phrases.stage"), import_module("pipeline.phrases.registry")
    parser = registry.build_parser(config)
    compute = partial(engine.in_batches, compute=partial(extract.parse_views, parser=parser), batch=extract.BATCH)
    return Built(parser.identity, compute)


def _boxes(config: GroundConfig, images: Path) -> Built:
    extract, registry = import_module("pipeline.grounding.stage"), import_module("pipeline.grounding.registry")
    grounder = registry.build_grounder(config)
    compute = partial(extract.compute_boxes, grounder=grounder, folder=images, n_workers=config.workers)
    return Built(grounder.identity, compute)


def _regions(config: RegionsConfig, images: Path, grid: bool) -> Built:
    extract, grids = import_module("pipeline.regions.stage"), import_module("pipeline.regions.stage")
    net = import_module("pipeline.regions.config").build_net(config)
    net = net.for_grid() if grid else net
    forward = net.grid if grid else net.forward
    settings = config.model_copy(update={"store_dtype": grids.DTYPE}) if grid else config
    return Built(net.identity, partial(extract.compute_rows, forward=forward, net=net, config=settings, folder=images))


def _by_itself(item: Any) -> str:
    return ""


def _picture_asked(query: Any) -> str:
    return str(query.image.digest)


def _picture_cut(crop: Any) -> str:
    return str(crop.digest)
