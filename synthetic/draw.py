"""Stage draw: a synthetic dataset in `data/<name>/`, laid out like any other, with its gold and highest F1 scores.

The types of a post's names are distinct and, by the symmetry of synthetic.posts, each assignment that agrees with what
can be seen is equally likely. So a name without evidence has each of the remaining types with equal probability. Spans
are never in doubt.
"""

import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, TypeAdapter

from cache import atomic
from pipeline.engine import Progress, silent
from schema.config import Config
from schema.errors import DataError
from schema.records import Box, Span, Split
from synthetic.posts import BLOCK, TYPES, Draft, Image, draft
from synthetic.scenes import Scene, compose, dataset_rng, png_bytes

GOLD_FILE = "gold.jsonl"
BROKEN_BYTES = 400  # what is left of a broken image: its header and a little more
N_THREADS = min(4, os.cpu_count() or 1)  # Pillow draws and compresses outside Python's lock


class DrawConfig(Config):
    """How many posts a synthetic dataset has: whole blocks, or names and templates would not be balanced."""

    n_train: int = Field(default=480, ge=0, multiple_of=BLOCK)
    n_dev: int = Field(default=160, ge=0, multiple_of=BLOCK)
    n_test: int = Field(default=240, ge=0, multiple_of=BLOCK)
    seed: int = Field(default=0, ge=0)

    @property
    def sizes(self) -> dict[Split, int]:
        sizes: dict[Split, int] = {"train": self.n_train, "dev": self.n_dev, "test": self.n_test}
        return {split: size for split, size in sizes.items() if size}


PRESETS = {"smoke": DrawConfig(), "tiny": DrawConfig(n_train=160, n_dev=80, n_test=80)}


@dataclass(frozen=True, slots=True)
class GoldObject:
    """An object of an image. Only objects that a name refers to have a span and a type."""

    kind: str
    cue: str | None  # true of no other object
    box: Box
    phrase: Span | None = None  # None: the post does not mention it
    span: Span | None = None  # words of the name
    type: str = ""
    noun: str = ""  # decides the type unless it is ""


@dataclass(frozen=True, slots=True)
class GoldPost:
    """Names and other objects of a post; those of a missing or broken image cannot be seen."""

    id: str
    split: Split
    image: Image
    names: tuple[GoldObject, ...]
    others: tuple[GoldObject, ...]


def gold(draft: Draft, scene: Scene) -> GoldPost:
    drawn = [(item.kind, item.cue, item.box) for item in scene.objects]
    mentions = zip(drawn, draft.mentions, strict=False)
    names = [GoldObject(*item, name.phrase, name.span, name.type, name.noun) for item, name in mentions]
    phrases = [draft.object_span, *[None] * len(drawn)]  # only the first of the other objects may be mentioned
    others = [GoldObject(*item, phrase) for item, phrase in zip(drawn[len(names) :], phrases, strict=False)]
    return GoldPost(draft.id, draft.split, draft.image, tuple(names), tuple(others))


def gold_lines(posts: Iterable[GoldPost]) -> str:
    """One JSON object per line."""
    return "".join(json.dumps(asdict(post), sort_keys=True) + "\n" for post in posts)


def read_gold(folder: Path) -> dict[str, GoldPost]:
    """Gold of a synthetic dataset by post id, from its folder; raises DataError if it is missing or damaged."""
    path = folder / GOLD_FILE
    try:
        rows = path.read_bytes().splitlines()
    except OSError:
        raise DataError("no gold file", where=str(path), todo="only synthetic datasets have it: fmit draw") from None
    adapter, posts = TypeAdapter(GoldPost), {}
    for number, row in enumerate(rows, 1):
        try:
            post = adapter.validate_json(row)
        except (ValueError, DataError) as error:
            found = str(error).splitlines()[0]
            what, todo = "not a line of gold", "draw it again: fmit draw"
            raise DataError(what, where=f"{path}:{number}", found=found, todo=todo) from None
        posts[post.id] = post
    return posts


class Ceilings(NamedTuple):
    """Highest expected strict micro F1 of predictors that read only the text of posts, and of those that see images."""

    text: float
    images: float


def ceilings(drafts: Sequence[Draft]) -> Ceilings:
    text, both = ([chance for draft in drafts for chance in chances(draft, images=images)] for images in (False, True))
    return Ceilings(float(best_f1(text)), float(best_f1(both)))


def chances(draft: Draft, *, images: bool) -> list[Fraction]:
    """For each name of a post, the probability of its most likely type."""
    visible = images and draft.image == "ok"
    certain = [bool(mention.noun) or visible for mention in draft.mentions]
    return [Fraction(1) if is_certain else Fraction(1, len(TYPES) - sum(certain)) for is_certain in certain]


def best_f1(each: Sequence[Fraction]) -> Fraction:
    """Highest expected F1 if `each` name is correct with its probability and may be left out.

    Gold entities number G = len(each). Predicting a set S gives 2 sum_S(probability) / (|S| + G) in expectation,
    exactly, since G and |S| are fixed; the best S of each size has the most certain names.
    """
    correct = accumulate(sorted(each, reverse=True))
    return max((2 * n / (n_predicted + len(each)) for n_predicted, n in enumerate(correct, 1)), default=Fraction(0))


@dataclass(frozen=True)
class DrawReport:
    sizes: dict[Split, int]  # posts of each split
    ceilings: dict[Split, Ceilings]

    def line(self, dataset: str) -> str:
        split: Split = "test" if "test" in self.ceilings else next(iter(self.ceilings))
        best = self.ceilings[split]
        line = f"draw {dataset}: {sum(self.sizes.values())} posts; F1 ceiling on {split}"
        return f"{line}: {best.text:.4f} from text alone, {best.images:.4f} with images"


def run(config: DrawConfig, out: Path, progress: Progress = silent) -> DrawReport:
    """Publish a synthetic dataset as the folder `out`, replacing an older one; the same config gives the same bytes.

    Ingest reads `<split>.jsonl` and `images/`; `gold.jsonl` and `ceilings.json` are for scoring.
    """
    drafts = {split: [draft(config.seed, split, k) for k in range(size)] for split, size in config.sizes.items()}
    posts = [post for members in drafts.values() for post in members]
    best = {split: ceilings(members) for split, members in drafts.items()}
    with atomic.folder(out) as folder:
        images = folder / "images"
        images.mkdir()

        def draw(post: Draft) -> GoldPost:
            scene = compose(dataset_rng(config.seed, post.number), post.objects)
            if post.image != "missing":
                data = png_bytes(scene)
                (images / f"{post.id}.png").write_bytes(data if post.image == "ok" else data[:BROKEN_BYTES])
            return gold(post, scene)

        for split, members in drafts.items():
            rows = [{"id": x.id, "tokens": list(x.words), "labels": x.tags, "images": [f"{x.id}.png"]} for x in members]
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
        gold_posts = []
        with ThreadPoolExecutor(N_THREADS) as pool:
            for gold_post in pool.map(draw, posts):
                gold_posts.append(gold_post)
                progress(len(gold_posts), len(posts))
        (folder / GOLD_FILE).write_text(gold_lines(gold_posts), encoding="utf-8")
        report = {"schema_version": 1} | {split: value._asdict() for split, value in best.items()}
        (folder / "ceilings.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return DrawReport(config.sizes, best)
