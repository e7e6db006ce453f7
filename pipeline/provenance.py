"""What an output says of how it was made: parameters and identities, nothing of the machine and no path.

Parts trained on drawings refuse images that the project did not draw.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from schema.config import Config
from schema.errors import SyntheticError
from schema.records import Post

# Parameters that change no number: where and how fast it runs, what is checked or allowed, how outputs are cut in files
SILENT = frozenset(
    "actors allow_synthetic batch device digest engine grid n_buckets timeout_s url workers".split()  # noqa: SIM905
)
LIBRARIES = ("torch", "torchvision", "transformers", "pillow")  # whose releases change a row's last bits, or more
MODELS = ("model", "weights")  # parameters that may hold a path


def note(config: Config, identity: Mapping[str, str], *, synthetic: bool) -> dict[str, Any]:
    """A part's entry: its Config class accepts `config` again; `identity` shows whether a part is the same."""
    values = config.model_dump(mode="json", exclude=set(SILENT))
    named = {name: portable(value) if name in MODELS else value for name, value in values.items()}
    return {"config": named, "identity": dict(identity), "synthetic": synthetic}


def portable(name: str) -> str:
    """A model's name without the folders of this machine; names that are no path here stay as they are."""
    path = Path(name).expanduser()
    return path.name if path.is_absolute() or path.exists() else name


def versions() -> dict[str, str]:
    """Of the libraries that computed a shard's rows: for the store, which differs between machines, not for outputs."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def refuse_real_images(posts: Iterable[Post], part: str) -> None:
    """Raise SyntheticError at the first post with an image that the project did not draw; the empty image is fine."""
    for post in posts:
        for image in post.images:
            if image.ok and not image.synthetic:
                raise SyntheticError(
                    f"{part} was trained on drawings, and the project did not draw {image.name}",
                    where=f"post {post.id}",
                    todo="use a real model, or try it with --allow-synthetic (allow_synthetic: true in params): "
                    "results are marked",
                )
