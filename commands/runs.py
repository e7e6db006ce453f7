"""Commands of runs: train, evaluate, predict, report, summary."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.console import (
    QUIET,
    RESUMES,
    Examples,
    Progress,
    RunFolder,
    allow_synthetic_option,
    json_option,
    note,
    params_option,
    print_json,
    print_table,
    progress,
    redact_option,
)
from model.trackers import TRACKERS, open_trackers
from schema.errors import DataError
from schema.text import inert_json, safe_text

if TYPE_CHECKING:
    from pipeline.corpus.records import ReadLog

folder = click.Path(path_type=Path, file_okay=False)
existing = click.Path(path_type=Path, file_okay=False, exists=True)
run_option = click.option("--run", "run", type=RunFolder(), required=True, help="A run's folder.")


@click.command(cls=Examples, example="fmit train --dataset smoke --approach bert-crf --seed 0", after=RESUMES)
@click.option("--dataset", required=True, help="A dataset of params.yaml.")
@click.option("--pack", type=folder, help="Features to train on.  [default: the dataset's own pack]")
@click.option(
    "--approach",
    default="fmit",
    show_default=True,
    help="FMIT, a baseline, an ablation or a control: see docs/experiments.md.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--out", type=folder, help="The run's folder.  [default: runs/DATASET-APPROACH-SEED]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--tracker",
    "trackers",
    multiple=True,
    type=click.Choice(tuple(TRACKERS)),
    envvar="FMIT_TRACKERS",
    help="Log every epoch to this tracker too, in the run's folder; may be repeated.",
)
@params_option
@json_option
def train(
    dataset: str,
    pack: Path | None,
    approach: str,
    seed: int,
    out: Path | None,
    device: str,
    trackers: tuple[str, ...],
    params_path: Path,
    as_json: bool,
) -> None:
    """Train an approach on a dataset.

    An interrupted training resumes from its last checkpoint (one is written every minute). Under `torchrun` or
    `accelerate launch` (with the module cli), several processes train one model.
    """
    from project import Project, run_config

    project = Project.open(params_path)
    run = out or project.run(dataset, approach, seed)
    first = os.environ.get("RANK", "0") == "0"  # the other processes print nothing
    if not first:
        click.get_current_context().meta[QUIET] = True
    with open_trackers(trackers if first else (), run) as track, progress(f"train {run.name}") as bar:
        epochs = project.train(
            dataset,
            approach,
            seed,
            pack=pack,
            out=run,
            device=device,
            progress=bar,
            warn=lambda text: note(f"warning: {text}"),
        )
        for result in epochs:
            track(result)
            best = "  best so far" if result.best else ""
            note(f"epoch {result.epoch}: loss {result.train_loss:.3f}, dev F1 {result.dev_f1:.4f}{best}")
    if warning := run_config(run).get("data", {}).get("warning"):
        note(f"warning: {warning}")
    if first and as_json:
        print_json({"run": str(run), "dev": run_config(run)["dev"]})
    elif first:
        click.echo(f"train {run.name}: done, see {run / 'model' / 'card.md'}")


@click.command(cls=Examples, example="fmit evaluate --run runs/smoke-fmit-0 --split dev")
@run_option
@click.option("--split", "splits", multiple=True, help="Split to score; repeatable.  [default: evaluate.splits]")
@click.option("--dataset", help="Score on another dataset's posts.  [default: the run's own]")
@click.option("--pack", type=folder, help="Features to read.  [default: the dataset's own pack]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@params_option
@json_option
def evaluate(
    run: Path,
    splits: tuple[str, ...],
    dataset: str | None,
    pack: Path | None,
    device: str,
    params_path: Path,
    as_json: bool,
) -> None:
    """Score a run on splits of a dataset.

    Prints strict micro P, R and F1 and the lenient F1; writes predictions, scores and confusions to scores/ in the run.
    """
    from project import Project

    project = Project.open(params_path)
    with progress(f"evaluate {run.name}") as bar:
        metrics = project.evaluate(run, splits, dataset=dataset, pack=pack, device=device, progress=bar)
    for warning in {scores["label_mismatch"] for scores in metrics.values() if "label_mismatch" in scores}:
        note(f"warning: run and dataset have different entity types: {warning}")
    if as_json:
        print_json(metrics)
        return
    for split, scores in metrics.items():
        strict, lenient = scores["strict"]["micro"], scores["lenient"]["micro"]
        synthetic = ", synthetic parts" if scores["synthetic"] else ""
        click.echo(
            f"evaluate {run.name}: {split} P {strict['precision']:.4f} R {strict['recall']:.4f} "
            f"F1 {strict['f1']:.4f} (lenient {lenient['f1']:.4f}{synthetic})"
        )


@click.command(cls=Examples, example="fmit predict posts.jsonl --run runs/smoke-fmit-0 --images data/smoke/images")
@click.argument("posts", type=click.Path(path_type=Path, dir_okay=False, exists=True), required=False)
@run_option
@click.option("--text", help="A post's text, instead of a file.")
@click.option("--images", type=existing, help="Folder of the posts' images.  [default: none: text alone]")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["jsonl", "conll", "text"]),
    default=None,
    help="text: a post per line.  [default: jsonl or conll, by suffix]",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="JSONL to write.  [default: stdout]")
@click.option("--strict", is_flag=True, help="Stop at a post that cannot be read.  [default: report it and go on]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@allow_synthetic_option
def predict(
    posts: Path | None,
    run: Path,
    text: str | None,
    images: Path | None,
    format_: str | None,
    out: Path | None,
    strict: bool,
    device: str,
    allow_synthetic: bool,
) -> None:
    """Find entities in the posts of a file.

    POSTS is JSONL, CoNLL or text, with or without images and labels; each post gives a line of JSONL as it is read.
    """
    import fmit
    from cache import atomic
    from pipeline.corpus.records import ReadLog

    if (posts is None) == (text is None):
        raise click.UsageError("give POSTS or --text")
    model = fmit.load(run, device=device, allow_synthetic=allow_synthetic)
    log = ReadLog(None if strict else _report_left_out, foreign_labels=True)
    states: Counter[str] = Counter()

    def lines(bar: Progress) -> Iterator[str]:
        found = (
            model.predict_file(posts, images=images, format=format_, progress=bar, log=log)
            if posts
            else model.predict([text or ""], images, log)
        )
        for one in found:
            states.update(image.state for image in one.post.images)
            yield inert_json(one.to_json()) + "\n"

    with progress("predict") as bar:
        if out is None:
            for line in lines(bar):
                click.echo(line, nl=False)
        else:
            with atomic.file(out) as temporary, temporary.open("w", encoding="utf-8") as file:
                file.writelines(lines(bar))
            note(f"predictions are in {out}")
    for remark in (_images_remark(states, given=images is not None), *_reading_remarks(log)):
        if remark:
            note(remark)


def _report_left_out(error: DataError) -> None:
    click.echo(f"left out: {safe_text(str(error), None)}", err=True)


def _reading_remarks(log: ReadLog) -> Iterator[str]:
    if log.n_without_gold:
        examples = ", ".join(f"{name} ({n})" for name, n in log.unknown.most_common(5))
        yield f"{log.n_without_gold} post(s) have labels that do not fit the run; their gold is left out: {examples}"
    if log.n_left_out:
        yield f"{log.n_left_out} post(s) could not be read and were left out"


def _images_remark(states: Counter[str], *, given: bool) -> str:
    """What became of the images that the posts name, where not all of them are ok."""
    lost = states.total() - states["ok"]
    if not lost:
        return ""
    if not given:
        return f"the posts name {lost} image(s), none was opened: give their folder with --images"
    bad = ", ".join(f"{states[state]} {state}" for state in ("missing", "broken", "refused") if states[state])
    return f"{lost} of {states.total()} image(s) cannot be used: {bad}; the model reads an empty image instead"


@click.command(cls=Examples, example="fmit report --run runs/smoke-fmit-0")
@run_option
@click.option("--dataset", help="The dataset with the images.  [default: the run's own]")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: report.html in the run]")
@redact_option
@params_option
def report(run: Path, dataset: str | None, out: Path | None, redact: bool, params_path: Path) -> None:
    """Write the report of a run.

    One HTML file with scores, curves, errors, and posts with their images and boxes; it loads nothing from a network.
    """
    import pages
    from project import Project

    page = pages.report(Project.open(params_path), run, out, dataset=dataset, redact=redact)
    click.echo(f"report {run.name}: open {page}")


@click.command(cls=Examples, example="fmit summary")
@params_option
@json_option
def summary(params_path: Path, as_json: bool) -> None:
    """Print the scores of the project's runs and the reports to open."""
    import pages
    from project import Project

    project = Project.open(params_path)
    rows = pages.summary(project)
    if as_json:
        print_json(rows)
        return
    if not rows:
        names = ", ".join(run.name for run, _ in project.runs()) or "none: see train_on, approaches and seeds"
        click.echo(f"no scored run yet; params.yaml names {names}")
        click.echo("`dvc repro` trains and scores them; `fmit train` and `fmit evaluate` do so one by one")
        return
    columns = ("run", "split", "precision", "recall", "f1", "ceiling")
    shown = [[("-" if row[name] is None else row[name]) for name in columns] for row in rows]
    print_table("strict micro scores", columns, shown)
    if any(row["ceiling"] is not None for row in rows):
        click.echo("ceiling: the highest F1 that can be expected from what the approach reads")
    for page in pages.reports(project):
        click.echo(f"open {page}")


COMMANDS = (train, evaluate, predict, report, summary)
