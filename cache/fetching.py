"""Downloading models: from the hub, torchvision's and benepar's servers, or copying from a folder without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache import atomic, hub, model_catalog, weights
from cache.models import ModelRef, ModelStatus, inspect
from schema.errors import WeightsError

TIMEOUT_S = 30.0
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Fetched:
    """The outcome for one model: its state afterwards; `error` where it is still missing or damaged."""

    status: ModelStatus
    error: WeightsError | None = None


def fetch_all(statuses: Iterable[ModelStatus], source: Path | None = None, *, bars: bool = False) -> Iterator[Fetched]:
    """Fetch each model in turn; one that cannot be fetched does not stop the others."""
    for before in statuses:
        try:
            fetch(before, source, bars=bars)
        except WeightsError as error:
            yield Fetched(before, error)
            continue
        now = inspect(before.model)
        what, todo = f"{now.model.name} is {now.state}", now.model.how_to_get
        wrong = None if now.state == "present" else WeightsError(what, where=now.where, found=now.problem, todo=todo)
        yield Fetched(now, wrong)


def fetch(status: ModelStatus, source: Path | None = None, *, bars: bool = False) -> None:
    """Get a model that is missing or damaged, from the folder `source` if given; raises WeightsError.

    The files are checked by the digest that settings, file name or hub give before they are published, and an
    interrupted download resumes.
    """
    model = status.model
    if model.kind in ("embedded", "file"):
        _fetch_file(status, source, bars)
    elif model.kind == "hub":
        _fetch_hub(status, source, bars)
    elif model.kind == "converted" and source:
        _copy_folder(_find_inside(source, model.name), weights.folder() / Path(model.name).name)
    elif model.kind == "benepar":
        _fetch_benepar(model, source)
    else:
        what = f"{model.name} is not fetched by this command"
        raise WeightsError(what, found=status.problem, todo=model.how_to_get)


def _fetch_file(status: ModelStatus, source: Path | None, bars: bool) -> None:
    model = status.model
    name, embedded = Path(model.name).name, model.kind == "embedded"
    name = name if not embedded or name.endswith(weights.SUFFIX) else name + weights.SUFFIX
    target = Path(status.where) if status.where else (weights.EMBEDDED if embedded else weights.folder()) / name
    sha256 = model.digest or weights.pin(target)
    if source:
        _copy_file(_find_inside(source, name), target, sha256)
        return
    url = model_catalog.torchvision_url(name)
    if embedded or not url:
        raise WeightsError(f"no download source for {name}", todo=model.how_to_get)
    download(url, target, sha256, bars=bars)


def _copy_file(given: Path, target: Path, sha256: str) -> None:
    damage = weights.damage(given, sha256)
    if damage:
        raise WeightsError(f"not the expected weights: {damage}", where=str(given), todo="give another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic.file(target) as temporary:
        shutil.copyfile(given, temporary)


def download(url: str, target: Path, sha256: str, *, bars: bool) -> None:
    """Download a file with this sha256 (or its first digits); `target`.part, left by an earlier call, is resumed."""
    import requests

    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _append(url, part, bars)
        damage = weights.damage(part, sha256)
        if damage:
            part.unlink()
            raise WeightsError(f"the downloaded file is not {target.name}: {damage}", where=url, todo="fetch it again")
        part.replace(target)
    except requests.RequestException as error:
        raise _unreachable(url, error) from None
    except OSError as error:
        raise WeightsError(f"cannot be written: {error.strerror}", where=str(target)) from None


def _append(url: str, part: Path, bars: bool) -> None:
    """Append to `part` the rest of the file at `url`; a server that sends the whole file again replaces it."""
    import requests
    from tqdm import tqdm

    done = part.stat().st_size if part.is_file() else 0
    headers = {"Range": f"bytes={done}-"} if done else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # the part is already the whole file
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        total = int(answer.headers.get("Content-Length", 0)) + (done if resumed else 0)
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(total=total, initial=done if resumed else 0, unit="B", unit_scale=True, disable=not bars) as bar,
        ):
            for block in answer.iter_content(BLOCK_BYTES):
                bar.update(file.write(block))


def _fetch_hub(status: ModelStatus, source: Path | None, bars: bool) -> None:
    model = status.model
    if source:
        hub.install(model.name, _find_inside(source, model.name), model.revision)
        return
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    if not bars:
        disable_progress_bars()
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        raise _unreachable(model.source, "HF_HUB_OFFLINE is set")
    options: dict[str, Any] = {"revision": model.revision or None, "force_download": status.state == "damaged"}
    try:
        folder = Path(snapshot_download(model.name, allow_patterns=list(hub.KEPT), **options))
        if not hub.weights_file(folder):  # no safetensors there: a pickle, which is read as tensors only
            snapshot_download(model.name, allow_patterns=["pytorch_model*.bin"], **options)
    except LocalEntryNotFoundError as error:
        raise _unreachable(model.source, str(error).splitlines()[0]) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        what, todo = "the hub refused the download", "check name and revision; a gated model needs a login"
        raise WeightsError(what, where=model.source, found=str(error)[:200], todo=todo) from None


def _fetch_benepar(model: ModelRef, source: Path | None) -> None:
    if source:
        from nltk.downloader import Downloader

        target = Path(Downloader().default_download_dir()) / "models" / model.name
        _copy_folder(_find_inside(source, model.name), target)
        return
    import benepar

    if not benepar.download(model.name, quiet=True):
        raise _unreachable("https://kitaev.com/benepar", f"no {model.name}")


def _copy_folder(given: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic.folder(target) as new:
        shutil.copytree(given, new, dirs_exist_ok=True)


def _find_inside(source: Path, name: str) -> Path:
    """A model's files in the folder of `--from`: FOLDER/NAME, FOLDER/last part of NAME, or FOLDER itself."""
    for given in (source / name, source / Path(name).name):
        if given.exists():
            return given
    if (source / "config.json").is_file() and not Path(name).suffix:
        return source
    raise WeightsError(f"no {Path(name).name} there", where=str(source), todo=f"put it into {source / Path(name).name}")


def _unreachable(where: str, error: object) -> WeightsError:
    return WeightsError(
        "cannot be reached",
        where=where,
        found=str(error)[:160],
        todo="fetch it on a machine with a network, then: fmit models fetch --from FOLDER",
    )
