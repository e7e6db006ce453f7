"""Stage ground: posts and phrases to boxes.parquet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cache import tables
from cache.store import Store
from pipeline import recipes
from pipeline.engine import Progress, Tally, silent
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.extract import STORE_SCHEMA, ground_posts, kept_phrases
from pipeline.grounding.registry import build_grounder
from pipeline.ray_engine import spread
from pipeline.stages.provenance import note, versions


def run(
    config: GroundConfig,
    posts: Path,
    phrases: Path,
    images: Path,
    out: Path,
    store_root: Path,
    progress: Progress = silent,
) -> Tally:
    """Publish `out`, one row a box. `images` is the folder of the pictures.

    Its meta hands on what the phrases say of themselves, adds `ground`, and counts under `n_cut` the phrases beyond the
    cap, under `n_too_long` the boxes of texts whose end the grounder does not read.
    """
    grounder = build_grounder(config)
    producer = {**grounder.identity, **versions()}
    found, (parsed, before) = tables.read_posts(posts), tables.read_phrases(phrases)
    with Store.open(store_root.absolute() / "boxes", schema=STORE_SCHEMA, producer=producer) as store:
        kept = spread(config, store, recipes.of_boxes(config, images), grounder.identity)
        rows, tally = ground_posts(found.posts, parsed, found.labels, config, grounder, images, kept, progress)
    n_cut = sum(len(one.phrases) - len(kept_phrases(one.phrases, config)) for one in parsed)
    too_long = {text for text in {row.text for row in rows} if grounder.is_cut(text)}
    counts = {"n_cut": n_cut, "n_too_long": sum(row.text in too_long for row in rows)}
    meta = {**before, "ground": note(config, grounder.identity, toy=grounder.toy), **counts}
    tables.write_boxes(out, rows, meta)
    return replace(tally, n_cut=n_cut, n_too_long=counts["n_too_long"])
