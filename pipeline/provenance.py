"""How an output was made: parameters and identities, without anything of the machine."""

import importlib.metadata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from schema.config import Config
from schema.errors import SyntheticError
from schema.records import Post

# Parameters that change no number: where and how fast a stage runs, what is checked or allowed, the number of files
SILENT = {"actors", "batch", "device", "engine", "timeout_s", "url", "workers"}
SILENT |= {"allow_synthetic", "digest", "grid", "n_buckets"}
LIBRARIES = ("torch", "torchvision", "transformers", "pillow")  # whose releases change a row's last bits, or more
MODELS = ("model", "weights")  # parameters that may hold a path


def note(config: Config, identity: Mapping[str, str], *, synthetic: bool) -> dict[str, Any]:
    """A part's entry: its Config class accepts `config` again; equal parts have an equal `identity`."""
    values = config.model_dump(mode="json", exclude=SILENT)
    values |= {name: portable(values[name]) for name in MODELS if name in values}
    return {"config": values, "identity": dict(identity), "synthetic": synthetic}


def portable(name: str) -> str:
    path = Path(name).expanduser()
    return path.name if path.is_absolute() or path.exists() else name


def versions() -> dict[str, str]:
    """Versions of the libraries that computed a shard's rows. For the store only: they differ between machines."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def refuse_real_images(posts: Iterable[Post], part: str) -> None:
    """Raise SyntheticError at the first post with an image that the project did not draw."""
    advice = "use {preset: embedded}, which works on photographs, or --allow-synthetic, which marks the results"
    for post in posts:
        for image in post.images:
            if image.ok and not image.synthetic:
                what = f"{part} was trained on drawings, and the project did not draw {image.name}"
                raise SyntheticError(what, where=f"post {post.id}", todo=advice)
