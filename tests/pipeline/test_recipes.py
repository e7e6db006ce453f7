"""What is sent to other machines is small, can be pickled, and computes there what the stage computes here."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from pipeline import recipes
from pipeline.engine import Memory, stream
from pipeline.grounding import stage as grounding_stage
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.registry import build_grounder
from pipeline.grounding.stage import Query, ground_posts
from pipeline.phrases import stage as phrases_stage
from pipeline.phrases.config import PhrasesConfig
from pipeline.phrases.registry import build_parser
from pipeline.phrases.stage import find_phrases
from pipeline.regions import stage as regions_stage
from pipeline.regions.config import RegionsConfig, build_net
from pipeline.regions.stage import EMPTY_BOX, Crop, extract_grids, extract_objects
from schema.records import Box
from tests.pipeline.drawn import LABELS, chosen, picture, post
from tests.vision.weights import save_toy


def sent(recipe: recipes.Recipe) -> recipes.Recipe:
    data = pickle.dumps(recipe)
    assert len(data) < 4096
    return pickle.loads(data)


def refill(recipe: recipes.Recipe, filled: Memory, items: dict) -> Memory:
    """The same rows by the recipe's own parts."""
    again, built = Memory(), sent(recipe).build()
    stream(again, items, built.compute, stage=recipe.stage)
    assert again.missing(list(filled._rows)) == []
    return again


def captured(monkeypatch, module) -> dict:
    """The items that a stage's function wants, by key."""
    found, usual = {}, module.engine.stream

    def watched(store, wanted, *rest, **more):
        found.update(wanted)
        return usual(store, wanted, *rest, **more)

    monkeypatch.setattr(module.engine, "stream", watched)
    return found


def test_phrases() -> None:
    config = PhrasesConfig()
    posts, rows = [post("a"), post("b")], Memory()
    parser = build_parser(config)
    find_phrases(posts, config, parser, rows)
    recipe = sent(recipes.of_phrases(config))
    built = recipe.build()
    assert dict(built.identity) == dict(parser.identity)
    from pipeline.phrases import normalize

    views = {phrases_stage.row_key(found, parser): found for one in posts if (found := normalize.sentences(one.words))}
    assert dict(built.compute(views)) == {key: rows.get([key])[0] for key in views}


def test_boxes(tmp_path: Path, monkeypatch) -> None:

    config, posts, rows = (
        GroundConfig(),
        [post("a", picture(tmp_path, "1.png")), post("b", picture(tmp_path, "2.png", seed=1))],
        Memory(),
    )
    grounder = build_grounder(config)
    items = captured(monkeypatch, grounding_stage)
    ground_posts(posts, [], LABELS, config, grounder, tmp_path, rows)
    recipe = recipes.of_boxes(config, tmp_path)
    assert dict(sent(recipe).build().identity) == dict(grounder.identity)
    assert refill(recipe, rows, items)._rows == rows._rows
    first, second = posts
    assert (
        recipe.group(Query(first.images[0], "a"))
        == recipe.group(Query(first.images[0], "b"))
        != recipe.group(Query(second.images[0], "a"))
    )


def test_regions_and_grids(tmp_path: Path, monkeypatch) -> None:

    config = RegionsConfig(
        weights=str(save_toy(tmp_path / "synthetic.safetensors")), batch=4, device="cpu", allow_synthetic=True
    )
    posts, net = [post("a", picture(tmp_path, "1.png"))], build_net(config)
    boxes = [chosen("a", word, (1, 1, 9, 9)) for word in LABELS.general_words]
    for grid in (False, True):
        rows, items = Memory(), captured(monkeypatch, regions_stage)
        if grid:
            extract_grids(posts, config, net, tmp_path, rows)
        else:
            extract_objects(posts, boxes, LABELS, config, net, tmp_path, rows)
        recipe = recipes.of_regions(config, tmp_path, grid=grid)
        assert (recipe.stage, recipe.n_items) == ("grid" if grid else "regions", 32)
        again = refill(recipe, rows, items)
        for key, crop in items.items():
            assert np.array_equal(again.get([key])[0], rows.get([key])[0]), crop
        assert again.get(list(items))[0].dtype == (np.float16 if grid else np.float32)
    image = posts[0].images[0]
    assert recipe.group(Crop(image, Box(0, 0, 2, 2))) == recipe.group(Crop(image, Box(0, 0, 5, 5)))
    assert recipe.group(Crop(None, EMPTY_BOX)) != recipe.group(Crop(image, EMPTY_BOX))
