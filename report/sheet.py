"""A contact sheet: many pictures of a dataset with the boxes that were found in them, as a page or as one picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import PIL.Image
import PIL.ImageDraw

from report.pages import safe_text, script_json, write_page
from report.posts import Posts, drawn, line_of, n_pictures
from report.runs import Line
from report.thumbnails import Album, Colour, Loader, load_or_none, with_boxes
from schema.labels import LabelSet
from schema.records import Grounded, Post

N_POSTS = 240  # of a sheet: a quarter of a minute to look through
CELL_PX, GAP_PX, CAPTION_PX = 240, 10, 16  # of a drawn sheet
PAPER: Colour = (250, 249, 246)
PHRASE: Colour = (200, 40, 60)
GENERAL: Colour = (60, 110, 200)


def pick(posts: Sequence[Post], n: int = N_POSTS) -> list[Post]:
    """At most `n` posts with a readable picture, in their order; digests of ids decide, so the same ones each time."""
    found = [post for post in posts if any(image.ok for image in post.images)]
    return [found[at] for at in drawn([post.id for post in found], range(len(found)), n)]


def write_html(
    posts: Sequence[Post],
    boxes: Iterable[Grounded],
    labels: LabelSet,
    out: Path,
    *,
    title: str,
    load_image: Loader,
    synthetic: bool = False,
    redact: bool = False,
    n: int = N_POSTS,
) -> None:
    """A page of `pick(posts, n)`, their pictures with boxes, and phrases that light up together with them."""
    chosen = pick(posts, n)
    lines = _lines(chosen, boxes)
    general = {word: name for name, word in labels.words.items()}
    types = tuple(dict.fromkeys([*labels.types, *(one.type for line in lines for one in line.gold or ())]))
    found = Posts(types, general, Album(load_image, n_pictures(lines)), redact, judge=False)
    found.add(lines)
    n_pictured = sum(any(image.ok for image in post.images) for post in posts)
    write_page(
        out,
        "sheet.html.jinja",
        ("cards.js", "sheet.js"),
        title=title,
        synthetic=synthetic,
        redact=redact,
        remark=f"{len(found.shown):,} of {n_pictured:,} posts with pictures, of {len(posts):,} in all",
        data=script_json(found.data()),
    )


def draw(
    posts: Sequence[Post], boxes: Iterable[Grounded], *, load_image: Loader, columns: int = 5, n: int = 40
) -> PIL.Image.Image:
    """The sheet as one RGB picture: a cell a post with its first readable picture, boxes drawn in, its id below.

    Cell k lies at column k % columns, row k // columns, `GAP_PX` apart, pictures at the cell's upper left. Boxes of
    phrases are drawn over those of general words.
    """
    lines = _lines(pick(posts, n), boxes)
    step = CELL_PX + GAP_PX
    n_rows = -(-len(lines) // columns)
    size = GAP_PX + columns * step, GAP_PX + n_rows * (step + CAPTION_PX)
    paper = PIL.Image.new("RGB", size, PAPER)
    pen = PIL.ImageDraw.Draw(paper)
    for at, line in enumerate(lines):
        x, y = GAP_PX + at % columns * step, GAP_PX + at // columns * (step + CAPTION_PX)
        cell = _cell(line, load_image)
        if cell is not None:
            paper.paste(cell, (x, y))
        caption = safe_text(line.id, 36).encode("ascii", "replace").decode()  # the built-in font knows no more
        pen.text((x, y + CELL_PX + 2), caption, fill=(90, 90, 100))
    return paper


def _cell(line: Line, load_image: Loader) -> PIL.Image.Image | None:
    index = next(at for at, picture in enumerate(line.pictures) if picture.state == "ok")
    image = load_or_none(load_image, line.pictures[index].name, line.pictures[index].digest)
    things = sorted((one for one in line.things if one.image_index == index), key=lambda one: one.source == "phrase")
    found = [(one.xyxy, PHRASE if one.source == "phrase" else GENERAL) for one in things if one.xyxy]
    return None if image is None else with_boxes(image, found, CELL_PX)


def _lines(posts: Sequence[Post], boxes: Iterable[Grounded]) -> list[Line]:
    by_post: dict[str, list[Grounded]] = {post.id: [] for post in posts}
    for box in boxes:
        if box.post_id in by_post:
            by_post[box.post_id].append(box)
    return [line_of(post, by_post[post.id]) for post in posts]
