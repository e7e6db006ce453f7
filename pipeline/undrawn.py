"""Parts trained on drawings refuse pictures that the project did not draw."""

from __future__ import annotations

from collections.abc import Iterable

from schema.errors import ToyError
from schema.records import Post


def refuse_undrawn(posts: Iterable[Post], part: str) -> None:
    """Raise ToyError at the first post with a picture that the project did not draw; the empty image is fine."""
    for post in posts:
        for image in post.images:
            if image.ok and not image.drawn:
                raise ToyError(
                    f"{part} was trained on drawings, and {image.name} is none of the project's",
                    where=f"post {post.id}",
                    todo="use a real model, or try it with --allow-toy (allow_toy: true in params): results are marked",
                )
