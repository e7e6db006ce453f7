"""What an out says of how it was made: parameters and identities, with nothing of the machine and no path.

Parts trained on drawings refuse pictures that the project did not draw.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from schema.config import Config
from schema.errors import SyntheticError
from schema.records import Post

# Parameters that change no number: where and how fast it runs, what is checked or allowed, how an out is cut in files.
SILENT = frozenset(
    {
        "actors",
        "allow_synthetic",
        "batch",
        "device",
        "digest",
        "engine",
        "grid",
        "n_buckets",
        "timeout_s",
        "url",
        "workers",
    }
)
LIBRARIES = ("torch", "torchvision", "transformers", "pillow")  # whose releases move a row's last bits, or more
MODELS = ("model", "weights")  # parameters that may hold a path


def note(config: Config, identity: Mapping[str, str], *, synthetic: bool) -> dict[str, Any]:
    """A part's entry: `config` can be checked by its Config class again, `identity` tells whether it is the same."""
    values = config.model_dump(mode="json", exclude=set(SILENT))
    named = {name: portable(value) if name in MODELS else value for name, value in values.items()}
    return {"config": named, "identity": dict(identity), "synthetic": synthetic}


def portable(name: str) -> str:
    """A model's name without the folders of this machine; names that are no path here stay as they are."""
    path = Path(name).expanduser()
    return path.name if path.is_absolute() or path.exists() else name


def versions() -> dict[str, str]:
    """Of the libraries that computed a shard's rows: for the store, which may differ between machines; not for outs."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def refuse_real_images(posts: Iterable[Post], part: str) -> None:
    """Raise SyntheticError at the first post with a picture that the project did not draw; the empty image is fine."""
    for post in posts:
        for image in post.images:
            if image.ok and not image.synthetic:
                raise SyntheticError(
                    f"{part} was trained on drawings, and {image.name} is none of the project's",
                    where=f"post {post.id}",
                    todo="use a real model, or try it with --allow-synthetic (allow_synthetic: true in params): results are marked",
                )
