"""Where a named model is on this machine, and whether it is the one that was meant."""

from __future__ import annotations

import importlib.util
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from cache import hub, keys, weights
from commands.models import known
from commands.models.named import Model
from schema.errors import WeightsError

State = Literal["present", "missing", "damaged"]
SERVER_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Found:
    """A model's state here. `digest` is of its weights (several files: of all of them); `why` says what is wrong."""

    model: Model
    state: State
    source: str
    licence: str
    n_bytes: int = 0  # here; of a missing model what is to be fetched, 0: not known
    where: str = ""
    digest: str = ""
    pinned: bool = False  # whether something names the digest that it must have
    revision: str = ""
    why: str = ""

    @property
    def fetched_by(self) -> str:
        """What to do when it is not here, or not whole."""
        return HOW[self.model.kind].format(name=self.model.name, version=known.MINILM_VERSION)

    def to_json(self) -> dict[str, Any]:
        todo = "" if self.state == "present" else self.fetched_by
        return {
            **{k: v for k, v in asdict(self).items() if k != "model"},
            **asdict(self.model),
            **_own(self),
            "todo": todo,
        }


HOW = {
    "embedded": "git checkout -- weights/{name}.safetensors, or fmit models fetch {name} --from FOLDER",
    "file": "fmit models fetch {name}, or with --from FOLDER where the file is",
    "converted": "convert the released .pth.tar (fmit models convert onestage), or fetch --from FOLDER where that is",
    "hub": "fmit models fetch {name}, or with --from FOLDER where its files are",
    "benepar": "fmit models fetch {name}, or with --from FOLDER where it is unpacked",
    "package": "pip install --force-reinstall --no-deps {name}=={version}",
    "spacy": "python -m spacy download {name} (without a network: pip install its wheel)",
    "server": "start the CoreNLP server there: java -mx4g -cp '*' edu.stanford.nlp.pipeline.StanfordCoreNLPServer",
}


def look(model: Model) -> Found:
    """Read what is here of a model, every byte of it where a digest is pinned; raises nothing."""
    return LOOK[model.kind](model)


def _own(found: Found) -> dict[str, str]:
    """Digest and revision as they are here, where the settings pin none."""
    return {"digest": found.digest or found.model.digest, "revision": found.revision or found.model.revision}


def _file(model: Model) -> Found:
    source, size = "a file of your own", 0
    if model.kind == "embedded":
        source = "this repository: weights"
    elif address := known.torchvision_file(Path(model.name).name):
        source, size = address
    licence = known.licence(model.name) if size == 0 else known.TORCHVISION_LICENCE
    try:
        path = weights.find(model.name)
    except WeightsError:
        return Found(model, "missing", source, licence, size, why="no such file")
    return _judged(model, path, source, licence, pin=model.digest or weights.pin(path))


def _judged(model: Model, path: Path, source: str, licence: str, *, pin: str) -> Found:
    """The state of a model that is one file."""
    if path.is_dir():
        return Found(model, "damaged", source, licence, where=str(path), why="a folder where a file should be")
    why = weights.damage(path, pin)
    size = path.stat().st_size
    digest = "" if why.startswith("it cannot be read") else keys.digest_file(path)
    state: State = "damaged" if why else "present"
    return Found(model, state, source, licence, size, str(path), digest, bool(pin), why=why)


def _package(model: Model) -> Found:
    source, licence = f"PyPI: {model.name} {known.MINILM_VERSION}", known.licence(model.name)
    spec = importlib.util.find_spec(known.MINILM_MODULE)  # found, never imported: its import pulls much in
    if spec is None or not spec.submodule_search_locations:
        size = known.KNOWN[model.name].size_mb * 10**6
        return Found(model, "missing", source, licence, size, why="the package is not installed")
    path = Path(spec.submodule_search_locations[0]) / "model" / "model.safetensors"
    if not path.is_file():
        return Found(model, "damaged", source, licence, where=str(path), why="the package holds no model.safetensors")
    return _judged(model, path, source, licence, pin=model.digest)


def _hub(model: Model) -> Found:
    given = Path(model.name).expanduser()
    own = given.is_dir()
    folder = given if own else hub.snapshot(model.name, model.revision)
    source = "a folder of your own" if own else f"https://huggingface.co/{model.name}"
    licence = known.licence(model.name, folder)
    if folder is None:
        facts = known.KNOWN.get(model.name)
        why = "not in the Hugging Face cache" + (f" at revision {model.revision}" if model.revision else "")
        return Found(model, "missing", source, licence, facts.size_mb * 10**6 if facts else 0, why=why)
    why, digest = _weights(folder, model.digest)
    state: State = "damaged" if why else "present"
    revision = "" if own else folder.name
    size = hub.size(folder)
    return Found(model, state, source, licence, size, str(folder), digest, bool(model.digest), revision, why)


def _weights(folder: Path, wanted: str) -> tuple[str, str]:
    """What is wrong with a model's folder ("" for nothing), and the digest of its weights."""
    if why := hub.damage(folder) or hub.bad_json(folder):
        return why, ""
    try:
        digest, parts = hub.digest(folder), hub.parts(folder)
    except WeightsError as error:
        return f"{error.what}: {error.found}" if error.found else error.what, ""
    if wanted:
        return ("" if digest == wanted else f"sha256 {digest}, expected {wanted}"), digest
    return next((f"{part.name}: {why}" for part in parts if (why := weights.damage(part))), ""), digest


def _converted(model: Model) -> Found:
    source, licence = "its authors' release, converted here", known.licence(model.name)
    try:
        path = weights.find(model.name)
    except WeightsError:
        return Found(model, "missing", source, licence, why="no such folder")
    return _many(model, path, source, licence, recursive=True)


def _benepar(model: Model) -> Found:
    source, licence = f"benepar's download: {model.name}", known.licence(model.name)
    try:
        from benepar.integrations.downloader import locate_model

        path = Path(locate_model(model.name))
    except LookupError:
        return Found(model, "missing", source, licence, why="neither a path nor among NLTK's data")
    except (ImportError, RuntimeError) as error:
        return Found(model, "missing", source, licence, why=f"benepar cannot be imported: {error}")
    return _many(model, path, source, licence, recursive=False)


def _spacy(model: Model) -> Found:
    source, licence = f"spaCy's releases: {model.name}", known.licence(model.name)
    path = Path(model.name)
    if not path.is_dir():
        spec = importlib.util.find_spec(model.name) if model.name.isidentifier() else None
        inside = [Path(one) for one in (spec.submodule_search_locations or [])] if spec else []
        found = [meta.parent for folder in inside for meta in folder.glob("*/meta.json")]
        if not found:
            return Found(model, "missing", source, licence, why="neither an installed pipeline nor a folder")
        path = found[0]
    return _many(model, path, source, licence, recursive=True)


def _many(model: Model, path: Path, source: str, licence: str, *, recursive: bool) -> Found:
    """The state of a model of several files; its digest is the one that the parser itself names."""
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    try:
        digest = _parser_digest(
            path, files if recursive else [one for one in files if one.parent in (path, path.parent)]
        )
    except OSError as error:
        return Found(model, "damaged", source, licence, where=str(path), why=f"it cannot be read: {error.strerror}")
    wrong = bool(model.digest) and digest != model.digest
    why = _frames(path, files) if files else "an empty folder"
    why = f"sha256 {digest}, expected {model.digest}" if wrong else why
    size = sum(one.stat().st_size for one in files)
    return Found(
        model,
        "damaged" if why else "present",
        source,
        licence,
        size,
        str(path),
        digest,
        bool(model.digest),
        why=why,
    )


def _frames(path: Path, files: list[Path]) -> str:
    """What is wrong with the settings and weights among a model's files, as far as that shows without a digest."""
    if path.is_dir() and (wrong := hub.bad_json(path)):
        return wrong
    tensors = [file for file in files if file.name == "benepar_model.bin" or file.suffix in (".pt", weights.SUFFIX)]
    return next((f"{file.name}: {why}" for file in tensors if (why := weights.damage(file))), "")


def _parser_digest(path: Path, files: list[Path]) -> str:
    """As `phrases.benepar.digest` and `phrases.noun_chunks` have it, without their libraries; a test compares."""
    if path.is_file():
        return keys.digest_file(path)
    return keys.key("model-folder", files={str(one.relative_to(path)): keys.digest_file(one) for one in files})


def _server(model: Model) -> Found:
    source, licence = "Stanford CoreNLP", "GPL-3.0-or-later"
    parts = urlsplit(model.name)
    try:
        address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        socket.create_connection(address, SERVER_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        return Found(model, "missing", source, licence, where=model.name, why=f"no server answers: {error}")
    return Found(model, "present", source, licence, where=model.name)


LOOK = {
    "embedded": _file,
    "file": _file,
    "converted": _converted,
    "hub": _hub,
    "package": _package,
    "benepar": _benepar,
    "spacy": _spacy,
    "server": _server,
}
