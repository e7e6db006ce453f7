"""Posts as JSON for the scripts of pages (safe text, a byte budget), and the contact sheet of a dataset."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from report.errors import KINDS, outcomes
from report.layout import span_text
from report.pages import Loader, redacted, safe_word, script_json, thumbnails, write_page
from schema.labels import LabelSet
from schema.prediction import Prediction
from schema.records import Entity, Image, Post, Region
from schema.text import safe_text

N_SAMPLE = 400  # posts without errors on a page: enough to see what works
TEXT_BUDGET = 5_000_000  # bytes of a page's posts without their images
IMAGE_BYTES = 500  # upper bound of an image's description
NAME_CHARS = 60  # of an image's file name


class Selection(NamedTuple):
    """The posts that a page shows, in their order, and how many there are with errors and without."""

    predictions: tuple[Prediction, ...]
    n_wrong: int
    n_wrong_shown: int
    n_other: int
    n_other_shown: int


def is_wrong(prediction: Prediction) -> bool:
    """Whether a gold entity is missed or a predicted entity is not correct."""
    return prediction.gold is not None and sorted(prediction.gold) != sorted(prediction.predicted)


def select(splits: Mapping[str, Sequence[Prediction]], cap: int, n_sample: int = N_SAMPLE) -> Selection:
    """At most `cap` posts with errors, and `n_sample` others (more if fewer than `cap` have errors)."""
    posts = [prediction for predictions in splits.values() for prediction in predictions]
    ids = [prediction.post.id for prediction in posts]
    wrong = [index for index, prediction in enumerate(posts) if is_wrong(prediction)]
    other = sorted(set(range(len(posts))) - set(wrong))
    wrong_shown = sample(ids, wrong, cap)
    other_shown = sample(ids, other, max(min(n_sample, cap), cap - len(wrong_shown)))
    shown = tuple(posts[index] for index in sorted([*wrong_shown, *other_shown]))
    return Selection(shown, len(wrong), len(wrong_shown), len(other), len(other_shown))


def sample(ids: Sequence[str], indices: Sequence[int], n: int) -> list[int]:
    """At most `n` of `indices` (into `ids`), ascending: those with the smallest digests of ids, the same every time."""
    return sorted(sorted(indices, key=lambda index: id_digest(ids[index]))[:n])


def id_digest(id_: str) -> bytes:
    """A key to sort posts in an order that depends only on their ids."""
    return hashlib.sha256(id_.encode("utf-8", "replace")).digest()


def page_data(
    predictions: Sequence[Prediction],
    words: Mapping[str, str],
    load_image: Loader,
    *,
    types: Sequence[str] = (),
    redact: bool = False,
    judge: bool = True,
    budget: int = TEXT_BUDGET,
) -> tuple[dict[str, Any], int, int]:
    """What a page's script draws, and how many posts and images the budgets leave out.

    `words` maps entity types to general words; `types` may name more. `judge` compares gold and predicted entities.
    """
    gold_types = [entity.type for prediction in predictions for entity in prediction.gold or ()]
    names = list(dict.fromkeys([*types, *words, *gold_types]))
    types_of_words = {word: names.index(name) for name, word in words.items()}
    posts: list[tuple[dict[str, Any], tuple[Image, ...]]] = []
    for prediction in predictions:
        post, images = _post_json(prediction, names, types_of_words, redact, judge), prediction.post.images
        n_bytes = len(script_json(post).encode("utf-8")) + IMAGE_BYTES * len(images)
        if n_bytes <= budget:
            budget -= n_bytes
            posts.append((post, images))
    readable = [image for _, images in posts for image in images if image.ok and not redact]
    uris = thumbnails(readable, load_image)
    indices = {key: index for index, key in enumerate(uris)}
    for post, images in posts:
        post["images"] = []
        for image in images:
            name, state = (safe_text(text, NAME_CHARS) for text in ("" if redact else image.name, image.state))
            values = {"width": image.width, "height": image.height, "state": state, "name": name}
            post["images"].append({"thumbnail": indices.get(image.digest or image.name), **values})
    kinds = [{"name": kind, "title": text.title, "meaning": text.meaning} for kind, text in KINDS.items()]
    values = {"types": [safe_text(name, NAME_CHARS) for name in names], "kinds": kinds, "redacted": redact}
    values |= {"posts": [post for post, _ in posts], "thumbnails": list(uris.values())}
    n_images = len({image.digest or image.name for image in readable})
    return values, len(predictions) - len(posts), n_images - len(uris)


def _post_json(
    prediction: Prediction, types: Sequence[str], types_of_words: Mapping[str, int], redact: bool, judge: bool
) -> dict[str, Any]:
    """A post without its images; an entity is [start, end, type], an outcome [kind, gold index, predicted index]."""
    post, gold = prediction.post, prediction.gold
    words = redacted(post.words) if redact else post.words
    judged = outcomes(gold, prediction.predicted) if judge and gold is not None else []
    predicted = [(_entity_json(each.entity, types), each.confidence) for each in prediction.entities]
    return {
        "id": safe_text(post.id),
        "split": post.split,
        "words": [safe_word(word) for word in words],
        "gold": None if gold is None else [_entity_json(entity, types) for entity in gold],
        "predicted": [[*entity, None if value is None else round(value, 4)] for entity, value in predicted],
        "outcomes": [[list(KINDS).index(each.kind), each.gold, each.predicted] for each in judged],
        "boxes": _boxes_json(prediction.objects, words, types_of_words, redact),
    }


def _entity_json(entity: Entity, types: Sequence[str]) -> list[int]:
    return [entity.span.start, entity.span.end, types.index(entity.type)]


def _boxes_json(
    regions: Sequence[Region], words: Sequence[str], types_of_words: Mapping[str, int], redact: bool
) -> list[list[Any]]:
    """Boxes as [text, start, end (-1: all words), type (-1: none), image, x0, y0, x1, y1, score]."""
    boxes = []
    for region in [region for region in regions if region.source != "image"]:
        text, span, box = region.text, region.span, region.box
        if span:
            text = span_text(words, span)
        elif redact:
            text = " ".join(redacted(text.split()))
        type_index = types_of_words.get(region.text, -1) if region.source == "general" else -1
        start, end = (span.start, span.end) if span else (-1, -1)
        if box:
            place = [box.image_index, *box.xyxy, round(region.score, 4)]
            boxes.append([safe_text(text, 120), start, end, type_index, *place])
    return boxes


def without_predictions(post: Post, regions: Iterable[Region]) -> Prediction:
    """A post with its gold entities and boxes, for pages about data."""
    return Prediction(post, (), tuple(each for each in regions if each.box and each.image_index < len(post.images)))


def write_sheet(
    posts: Sequence[Post],
    boxes: Mapping[str, Sequence[Region]],
    labels: LabelSet,
    out: Path,
    *,
    title: str,
    load_image: Loader,
    n: int,
    synthetic: bool = False,
    redact: bool = False,
) -> None:
    """Write a page of at most `n` posts that have a readable image, with their boxes; the same posts every time."""
    with_image = [post for post in posts if any(image.ok for image in post.images)]
    shown = [with_image[index] for index in sample([post.id for post in with_image], range(len(with_image)), n)]
    predictions = [without_predictions(post, boxes.get(post.id, ())) for post in shown]
    data = page_data(predictions, labels.words, load_image, redact=redact, judge=False)[0]
    summary = f"{len(data['posts']):,} of {len(with_image):,} posts with images; {len(posts):,} posts in all"
    values = {"title": title, "synthetic": synthetic, "redact": redact, "summary": summary}
    write_page(out, "sheet.html.jinja", ("cards.js", "sheet.js"), **values, data=script_json(data))
