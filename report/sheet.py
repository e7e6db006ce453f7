"""A contact sheet: a page of many images of a dataset with their boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from report.pages import script_json, write_page
from report.posts import post_data, sample, without_predictions
from report.thumbnails import Loader
from schema.labels import LabelSet
from schema.records import Post, Region

N_POSTS = 240  # on a page


def select(posts: Sequence[Post], n: int = N_POSTS) -> list[Post]:
    """At most `n` posts with a readable image, in their order; the same ones every time."""
    posts = [post for post in posts if any(image.ok for image in post.images)]
    return [posts[index] for index in sample([post.id for post in posts], range(len(posts)), n)]


def write_html(
    posts: Sequence[Post],
    boxes: Mapping[str, Sequence[Region]],
    labels: LabelSet,
    out: Path,
    *,
    title: str,
    load_image: Loader,
    synthetic: bool = False,
    redact: bool = False,
    n: int = N_POSTS,
) -> None:
    """Write a page of `select(posts, n)`: images with boxes, and phrases that are highlighted together with them."""
    shown = [without_predictions(post, boxes.get(post.id, ())) for post in select(posts, n)]
    data = post_data(shown, labels.words, load_image, redact=redact, judge=False)
    n_with_image = sum(any(image.ok for image in post.images) for post in posts)
    write_page(
        out,
        "sheet.html.jinja",
        ("cards.js", "sheet.js"),
        title=title,
        synthetic=synthetic,
        redact=redact,
        summary=f"{len(data.posts):,} of {n_with_image:,} posts with images; {len(posts):,} posts in all",
        data=script_json(data.to_json()),
    )
