"""Getting models: from the hub, torchvision's and benepar's servers, or a folder where there is no network."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from cache import atomic, hub, weights
from commands.models import known
from commands.models.state import Found
from schema.errors import WeightsError

TIMEOUT_S = 30.0
BLOCK_BYTES = 1 << 20


def fetch(found: Found, source: Path | None = None, *, bars: bool = False) -> None:
    """Get a model that is missing or damaged, from `source` (a folder) if given; raises WeightsError.

    What arrives is checked by the digest that settings, file name or hub give before it is published, and an
    interrupted download goes on where it was.
    """
    kind = found.model.kind
    if kind in ("embedded", "file"):
        _file(found, source, bars)
    elif kind == "hub":
        _hub(found, source, bars)
    elif kind == "converted" and source:
        _folder(_inside(source, found.model.name), weights.folder() / Path(found.model.name).name)
    elif kind == "benepar":
        _benepar(found, source)
    else:
        raise WeightsError(f"{found.model.name} is not fetched by this command", found=found.why, todo=found.fetched_by)


def _file(found: Found, source: Path | None, bars: bool) -> None:
    name, embedded = Path(found.model.name).name, found.model.kind == "embedded"
    name = name if not embedded or name.endswith(weights.SUFFIX) else name + weights.SUFFIX
    target = Path(found.where) if found.where else (weights.EMBEDDED if embedded else weights.folder()) / name
    wanted = found.model.digest or weights.pin(target)
    if source:
        _copy(_inside(source, name), target, wanted)
        return
    address = known.torchvision_file(name)
    if embedded or address is None:
        raise WeightsError(f"nobody is known to offer {name}", todo=found.fetched_by)
    download(address[0], target, wanted, bars=bars)


def _copy(given: Path, target: Path, wanted: str) -> None:
    why = weights.damage(given, wanted)
    if why:
        raise WeightsError(f"not the weights that are wanted: {why}", where=str(given), todo="give another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic.file(target) as temporary:
        shutil.copyfile(given, temporary)


def download(url: str, target: Path, wanted: str, *, bars: bool) -> None:
    """Download a file with the sha256 `wanted` (or its first digits) by pooch; what was half there is gone on with."""
    import pooch
    import requests

    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")

    def resuming(address: str, output: Any, _: Any) -> None:
        _continue(address, part, bars)
        why = weights.damage(part, wanted)
        if why:
            part.unlink()
            raise WeightsError(f"what arrived is not {target.name}: {why}", where=url, todo="fetch it again")
        part.replace(output)

    pooch.get_logger().setLevel("ERROR")
    try:
        target.unlink(missing_ok=True)  # a damaged one: pooch would keep it
        pooch.retrieve(url, known_hash=None, fname=target.name, path=target.parent, downloader=resuming)
    except requests.RequestException as error:
        raise _offline(url, error) from None
    except OSError as error:
        raise WeightsError(f"cannot be written: {error.strerror}", where=str(target)) from None


def _continue(url: str, part: Path, bars: bool) -> None:
    """Append to `part` what it lacks of the file at `url`; a server that sends all of it again replaces it."""
    import requests
    from tqdm import tqdm

    done = part.stat().st_size if part.is_file() else 0
    headers = {"Range": f"bytes={done}-"} if done else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # all of it was here
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        total = int(answer.headers.get("Content-Length", 0)) + (done if resumed else 0)
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(total=total, initial=done if resumed else 0, unit="B", unit_scale=True, disable=not bars) as bar,
        ):
            for block in answer.iter_content(BLOCK_BYTES):
                bar.update(file.write(block))


def _hub(found: Found, source: Path | None, bars: bool) -> None:
    model = found.model
    if source:
        hub.install(model.name, _inside(source, model.name), model.revision)
        return
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    if not bars:
        disable_progress_bars()
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        raise _offline(found.source, "HF_HUB_OFFLINE is set")
    options: dict[str, Any] = {"revision": model.revision or None, "force_download": found.state == "damaged"}
    try:
        folder = Path(snapshot_download(model.name, allow_patterns=list(hub.KEPT), **options))
        if not hub.weights_file(folder):  # no safetensors there: a pickle, which is read as tensors only
            snapshot_download(model.name, allow_patterns=["pytorch_model*.bin"], **options)
    except LocalEntryNotFoundError as error:
        raise _offline(found.source, str(error).splitlines()[0]) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        todo = "see the name and revision in params.yaml; a gated model needs a login with its publisher"
        raise WeightsError("the hub does not give it", where=found.source, found=str(error)[:200], todo=todo) from None


def _benepar(found: Found, source: Path | None) -> None:
    name = found.model.name
    if source:
        from nltk.downloader import Downloader

        _folder(_inside(source, name), Path(Downloader().default_download_dir()) / "models" / name)
        return
    import benepar

    if not benepar.download(name, quiet=True):
        raise _offline("https://kitaev.com/benepar", f"no {name}")


def _folder(given: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic.folder(target) as new:
        shutil.copytree(given, new, dirs_exist_ok=True)


def _inside(source: Path, name: str) -> Path:
    """What `--from FOLDER` holds of a model: FOLDER/NAME, FOLDER/last part of NAME, or FOLDER itself."""
    for given in (source / name, source / Path(name).name):
        if given.exists():
            return given
    if (source / "config.json").is_file() and not Path(name).suffix:
        return source
    raise WeightsError(f"no {Path(name).name} there", where=str(source), todo=f"put it into {source / Path(name).name}")


def _offline(where: str, error: object) -> WeightsError:
    return WeightsError(
        "cannot be reached",
        where=where,
        found=str(error)[:160],
        todo="fetch it on a machine with a network, then: fmit models fetch --from FOLDER",
    )
