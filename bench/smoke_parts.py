"""Each stage measured by itself on a synthetic dataset: phrases and boxes."""

from __future__ import annotations

import numpy as np

from cache import tables
from fmit import Project
from schema.records import Span
from synthetic.draw import GoldObject, GoldPost, read_gold
from vision.crops import iou

HIT_IOU = 0.5


def parts(project: Project, dataset: str, rng: np.random.Generator) -> dict[str, float]:
    """Shares, over the names of all posts whose image is readable."""
    gold = {id_: post for id_, post in read_gold(project.data(dataset)).items() if post.image == "ok"}
    return {**_phrases(project, dataset, gold), **_boxes(project, dataset, gold, rng)}


def _names(gold: dict[str, GoldPost]) -> list[tuple[str, GoldObject, Span]]:
    return [(id_, name, name.phrase) for id_, post in gold.items() for name in post.names if name.phrase]


def _phrases(project: Project, dataset: str, gold: dict[str, GoldPost]) -> dict[str, float]:
    rows, _ = tables.read_phrases(project.out(dataset, "phrases.parquet"))
    parsed = {(row.post_id, phrase.span) for row in rows for phrase in row.phrases}
    hits = [(id_, span) in parsed for id_, _, span in _names(gold)]
    return {"phrases: recall on phrases of names": float(np.mean(hits))}


def _boxes(project: Project, dataset: str, gold: dict[str, GoldPost], rng: np.random.Generator) -> dict[str, float]:
    boxes, _ = tables.read_boxes(project.out(dataset, "boxes.parquet"))
    posts = {post.id: post for post in tables.read_posts(project.out(dataset, "posts.parquet")).posts}
    chosen = {(id_, region.span): region.box for id_, regions in boxes.items() for region in regions if region.span}
    hits: list[bool] = []
    whole: list[bool] = []
    chance: list[bool] = []
    for id_, name, span in _names(gold):
        image = posts[id_].images[0]
        box = chosen.get((id_, span))
        hits.append(box is not None and iou(box.xyxy, name.box.xyxy) >= HIT_IOU)
        whole.append(iou((0, 0, image.width, image.height), name.box.xyxy) >= HIT_IOU)
        chance.append(iou(_random_box(rng, image.width, image.height), name.box.xyxy) >= HIT_IOU)
    return {
        "boxes: acc@0.5 on names": float(np.mean(hits)),
        "boxes: acc@0.5 of whole images": float(np.mean(whole)),
        "boxes: acc@0.5 of random boxes": float(np.mean(chance)),
    }


def _random_box(rng: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
    x0, x1 = np.sort(rng.choice(width + 1, 2, replace=False))
    y0, y1 = np.sort(rng.choice(height + 1, 2, replace=False))
    return int(x0), int(y0), int(x1), int(y1)
