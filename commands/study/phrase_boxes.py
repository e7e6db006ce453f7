"""What phrases and boxes are worth on drawn posts: FMIT on {gold, model, no} phrases x {gold, model, random} boxes.

Gold phrases and boxes are those of the drawn pictures (synthetic.gold). A general word's gold box is that of the first
name of its type, a phrase's that of the thing whose phrase shares most of its words; where there is none, the whole
picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from commands.grounding import drawn_boxes
from commands.study.steps import Say, boxes_of, pack_of, score, train
from commands.study.study import Study, Unit
from schema.records import Box, Grounded, Phrase, Post, PostPhrases, Span

if TYPE_CHECKING:
    from report.layout import Table
    from synthetic.gold import GoldPost, GoldThing


PHRASES = ("gold", "model", "no")
BOXES = ("gold", "model", "random")
APPROACH = "fmit"


@dataclass(frozen=True)
class Pair:
    """Phrases and boxes of one cell of the table."""

    phrases: str
    boxes: str

    @property
    def name(self) -> str:
        return f"{self.phrases}-phrases-{self.boxes}-boxes"


PAIRS = tuple(Pair(phrases, boxes) for phrases in PHRASES for boxes in BOXES)


def is_drawn(study: Study, dataset: str) -> bool:
    """Whether the dataset has gold phrases and boxes."""
    from synthetic.gold import FILE

    return (study.data(dataset) / FILE).is_file()


def prepare_pair(study: Study, dataset: str, pair: Pair) -> Path:
    """Phrases, boxes and the pack of a pair; returns the pack."""
    from cache import tables

    folder = folder_of(study, dataset, pair)
    phrases = _phrases(study, dataset, pair, folder / "phrases.parquet")
    grounded = folder / "boxes.parquet"
    boxes_of(study, dataset, phrases, grounded, at_random=pair.boxes == "random")
    if pair.boxes == "gold":
        found, meta = tables.read_boxes(grounded)
        posts = {post.id: post for post in tables.read_posts(study.out(dataset, "posts.parquet")).posts}
        words = study.source(dataset).label_set().words
        gold = _gold(study, dataset)
        boxes = [_gold_box(one, posts[one.post_id], gold[one.post_id], words) for one in found]
        part = {**meta["ground"], "config": {"grounder": "gold"}, "identity": {"name": "gold"}, "synthetic": False}
        tables.write_boxes(grounded, boxes, {**meta, "ground": part})
    pack_of(study, dataset, grounded, folder / "pack")
    return folder / "pack"


def train_pairs(study: Study, dataset: str, say: Say, device: str = "auto") -> None:
    """Train and score the pairs that are not there for today's settings and packs, on the first seed."""
    for pair in PAIRS:
        pack = prepare_pair(study, dataset, pair)
        run, unit = folder_of(study, dataset, pair) / "run", Unit(dataset, APPROACH, study.asked.seeds[0])
        train(study, unit, say, device, folder=run, pack=pack)
        score(study, unit, dataset, device, folder=run, pack=pack)


def folder_of(study: Study, dataset: str, pair: Pair) -> Path:
    """Where a pair's phrases, boxes, pack and run lie."""
    return study.root / "pairs" / dataset / pair.name


def quality(study: Study, dataset: str, split: str) -> Table:
    """The nine pairs' scores: entities, entities with boxes, and both with types."""
    from report.grounding import SCORES
    from report.grounding import score as judge
    from report.layout import Cell, Column, Number, Row, Table
    from report.runs import read_predictions

    rows = []
    for pair in PAIRS:
        path = folder_of(study, dataset, pair) / "run" / "scores" / f"predictions-{split}.jsonl"
        cells: tuple[Cell, ...] = (pair.boxes, None, None, None)
        if path.is_file():
            lines = [line for line in read_predictions(path) if line.gold is not None]
            found = judge(lines, drawn_boxes(lines, study.data(dataset)))
            cells = (pair.boxes, *(Number(100 * found[name].f1) for name in SCORES))
        rows.append(Row(f"{pair.phrases} phrases", cells, "", "" if path.is_file() else "not run"))
    columns = (Column("boxes"), *(Column(name, "F1") for name in SCORES))
    notes = (
        "FMIT trained and scored on each pair, one seed. MNER: words and type; EEG: words and box (IoU >= 0.5); GMNER: "
        "all three.",
        "Without phrases no entity has a box: only those that no picture shows can be right there.",
    )
    return Table(f"grounding-{dataset}", f"Grounding quality, {dataset}, {split} split", columns, tuple(rows), notes)


def _phrases(study: Study, dataset: str, pair: Pair, out: Path) -> Path:
    """phrases.parquet of a pair: the model's is the dataset's own."""
    from cache import tables

    own = study.out(dataset, "phrases.parquet")
    if pair.phrases == "model":
        return own
    posts, (_, meta) = tables.read_posts(study.out(dataset, "posts.parquet")).posts, tables.read_phrases(own)
    gold = _gold(study, dataset)
    spans = {post.id: _spans(gold[post.id]) if pair.phrases == "gold" else [] for post in posts}
    found = [
        PostPhrases(post.id, tuple(Phrase(one, " ".join(post.words[one.start : one.end])) for one in spans[post.id]))
        for post in posts
    ]
    tables.write_phrases(out, found, meta)
    return out


def _spans(post: GoldPost) -> list[Span]:
    return sorted({one.phrase for one in (*post.names, *post.others) if one.phrase})


def _gold(study: Study, dataset: str) -> Mapping[str, GoldPost]:
    from synthetic.gold import read_gold

    return read_gold(study.data(dataset))


def _gold_box(one: Grounded, post: Post, gold: GoldPost, words: Mapping[str, str]) -> Grounded:
    """The row with the gold box in place of the grounder's."""
    image = post.images[one.box.image_index]
    whole = Box(0, 0, image.width, image.height, one.box.image_index)
    if one.span is None:
        types = [name for name, word in words.items() if word == one.text]
        thing = next((named for named in gold.names if named.type in types), None)
    else:
        thing = _thing_at(one.span, (*gold.names, *gold.others))
    box = replace(thing.box, image_index=one.box.image_index) if thing else whole
    return replace(one, box=box, score=1.0, clamped=False, grounder="gold")


def _thing_at(span: Span, things: Sequence[GoldThing]) -> GoldThing | None:
    """The thing whose phrase shares the largest part of the words with `span`."""
    best = max(_shares(span, things), key=lambda found: found[0], default=(0.0, None))
    return best[1]


def _shares(span: Span, things: Iterable[GoldThing]) -> Iterator[tuple[float, GoldThing]]:
    for thing in things:
        if thing.phrase and thing.phrase.overlaps(span):
            common = min(span.end, thing.phrase.end) - max(span.start, thing.phrase.start)
            yield common / (max(span.end, thing.phrase.end) - min(span.start, thing.phrase.start)), thing
