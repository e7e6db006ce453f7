"""Stage ground: posts and phrases to boxes.parquet."""

from __future__ import annotations

from pathlib import Path

from cache import tables
from cache.store import Store
from pipeline.engine import Progress, Tally, silent
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.extract import STORE_SCHEMA, ground_posts, kept_phrases
from pipeline.grounding.registry import build_grounder
from pipeline.stages.provenance import note


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
    cap.
    """
    grounder = build_grounder(config)
    found, (parsed, before) = tables.read_posts(posts), tables.read_phrases(phrases)
    with Store.open(store_root / "boxes", schema=STORE_SCHEMA, producer=grounder.identity) as store:
        rows, tally = ground_posts(found.posts, parsed, found.labels, config, grounder, images, store, progress)
    n_cut = sum(len(one.phrases) - len(kept_phrases(one.phrases, config)) for one in parsed)
    meta = {**before, "ground": note(config, grounder.identity, toy=grounder.toy), "n_cut": n_cut}
    tables.write_boxes(out, rows, meta)
    return tally
