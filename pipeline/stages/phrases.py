"""Stage phrases: posts.parquet to phrases.parquet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cache import tables
from cache.store import Store
from pipeline import recipes
from pipeline.engine import Progress, Tally, silent
from pipeline.phrases.config import PhrasesConfig
from pipeline.phrases.extract import STORE_SCHEMA, find_phrases
from pipeline.phrases.registry import build_parser
from pipeline.ray_engine import spread
from pipeline.stages.provenance import note


def run(config: PhrasesConfig, posts: Path, out: Path, store_root: Path, progress: Progress = silent) -> Tally:
    """Publish `out`, one row a post; its meta names parser and parameters under `phrases`."""
    parser = build_parser(config)
    found = tables.read_posts(posts)
    with Store.open(store_root.absolute() / "phrases", schema=STORE_SCHEMA, producer=parser.identity) as store:
        rows = spread(config, store, recipes.of_phrases(config), parser.identity)
        phrases, tally = find_phrases(found.posts, config, parser, rows, progress)
    tables.write_phrases(out, phrases, {"phrases": note(config, parser.identity, toy=False)})
    return replace(tally, n_cut=sum(one.n_cut for one in phrases))
