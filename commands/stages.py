"""Commands for doctor, the stages of the pipeline, and runs."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands import console
from commands.console import EXISTING_FOLDER, FILE, FOLDER, Examples, note, print_result
from model.trackers import TRACKERS, open_trackers
from schema.text import inert_json, safe_text

if TYPE_CHECKING:
    from project import Project

approach_help = "FMIT, a baseline, an ablation or a control: see docs/experiments.md."
tracker_help = "Also log every epoch to this tracker, in the run's folder; repeatable."
format_help = "text: one post per line.  [default: jsonl or conll, by suffix]"
MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@click.command(cls=Examples, example="fmit doctor")
@click.option("--no-data", is_flag=True, help="Skip reading posts and images, the slowest check.")
@console.params_option
@console.json_option
def doctor(no_data: bool, params_path: Path) -> None:
    """Check the installation, settings and data.

    Checks the machine, versions, models, data, store and DVC; runs no stage and writes nothing. Exits with code 1 if
    there is a problem, which would stop a stage or invalidate its results. Each problem comes with its solution.
    """
    from checks import check_all

    findings = list(check_all(params_path, with_data=not no_data, bar=console.progress))
    n_problems, n_notes = (sum(finding.level == level for finding in findings) for level in ("problem", "note"))
    lines: list[str] = []
    for topic, group in groupby(findings, lambda finding: finding.topic):
        lines += ["", topic] if lines else [topic]
        for finding in group:
            what = safe_text(finding.what, 600)  # the installed packages have about 500 characters
            lines.append(f"  {MARKS[finding.level]} {what}")
            lines += [f"          -> {safe_text(finding.todo)}"] if finding.todo else []
    value = {"schema_version": 1, "ok": n_problems == 0, "findings": findings}
    print_result(value, *lines, f"\n{n_problems} problem(s), {n_notes} note(s)")
    if n_problems:
        sys.exit(1)


@click.command(cls=Examples, example="fmit ingest smoke")
@click.argument("dataset")
@console.project_option
@console.json_option
def ingest(dataset: str, project: "Project") -> None:
    """Read the posts and check the images of data/DATASET."""
    with console.progress(f"ingest {dataset}") as bar:
        report = project.ingest(dataset, bar)
    head, *rows = report.rows()
    value = {"stage": "ingest", "dataset": dataset, "variant": report.variant, "splits": report.counts.to_json()}
    value["remarks"] = report.remarks()
    print_result(value, report.line(dataset), table=(dataset, head, rows))
    for remark in report.remarks():
        console.note(remark)


def stage(name: str, about: str, *, has_synthetic: bool = False, after: str = console.RESUMES) -> click.Command:
    """The command of a stage; `has_synthetic`: with the option --allow-synthetic."""

    def body(dataset: str, project: "Project", **options: Any) -> None:
        with console.progress(f"{name} {dataset}") as bar:
            report = getattr(project, name)(dataset, bar, **options)
        print_result({**asdict(report), "stage": name, "dataset": dataset}, report.line(dataset))

    body = click.argument("dataset")(console.project_option(console.json_option(body)))
    if has_synthetic:
        body = console.allow_synthetic_option(body)
    return click.command(name, cls=Examples, example=f"fmit {name} smoke", help=about, after=after)(body)


@click.command(hidden=True)
@click.argument("dataset")
@console.project_option
def inputs(dataset: str, project: "Project") -> None:
    """Write the digests of inputs that DVC does not see in data/DATASET: `inputs/DATASET/dvc.yaml` calls this."""
    project.inputs(dataset)


STAGES = (
    inputs,
    stage("draw", "Draw a synthetic dataset into data/DATASET.", after=console.STARTS_AGAIN),
    ingest,
    stage("phrases", "Find the noun phrases of a dataset's posts."),
    stage("ground", "Find a box for each noun phrase and general word.", has_synthetic=True),
    stage("regions", "Compute the features of images and boxes: the pack."),
)


@click.command(cls=Examples, example="fmit train --dataset smoke --approach bert-crf --seed 0", after=console.RESUMES)
@click.option("--dataset", required=True, help="A dataset of params.yaml.")
@click.option("--pack", type=FOLDER, help="Features to train on.  [default: the dataset's own pack]")
@click.option("--approach", default="fmit", show_default=True, help=approach_help)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--out", type=FOLDER, help="The run's folder.  [default: runs/DATASET-APPROACH-SEED]")
@console.device_option
@click.option("--tracker", multiple=True, type=click.Choice([*TRACKERS]), envvar="FMIT_TRACKERS", help=tracker_help)
@console.project_option
@console.json_option
def train(
    dataset: str, approach: str, seed: int, out: Path | None, tracker: Any, project: "Project", **more: Any
) -> None:
    """Train an approach on a dataset.

    Interrupted training resumes from its last checkpoint (one is written every minute). Under `torchrun` or
    `accelerate launch` (run it as `-m cli`), several processes train one model.
    """
    from cache.run_files import run_config

    run = out or project.run(dataset, approach, seed)
    first = os.environ.get("RANK", "0") == "0"  # the other processes print nothing
    if first:
        more["warn"] = console.warn
    else:
        click.get_current_context().meta["fmit.quiet"] = True
    with open_trackers(tracker if first else (), run) as track, console.progress(f"train {run.name}") as bar:
        for result in project.train(dataset, approach, seed, out=run, progress=bar, **more):
            track(result)
            best = "  best so far" if result.best else ""
            note(f"epoch {result.epoch}: loss {result.train_loss:.3f}, dev F1 {result.dev_f1:.4f}{best}")
    if first:
        value = {"run": run, "dev": run_config(run)["dev"]}
        print_result(value, f"train {run.name}: done, see {run / 'model' / 'card.md'}")


@click.command(cls=Examples, example="fmit evaluate --run runs/smoke-fmit-0 --split dev")
@console.run_option
@click.option("--split", "splits", multiple=True, help="Split to score; repeatable.  [default: evaluate.splits]")
@click.option("--dataset", help="Score on another dataset's posts.  [default: the run's own]")
@click.option("--pack", type=FOLDER, help="Features to read.  [default: the dataset's own pack]")
@console.device_option
@console.project_option
@console.json_option
def evaluate(run: Path, project: "Project", **options: Any) -> None:
    """Score a run on splits of a dataset.

    Prints strict micro P, R and F1 and the lenient F1; writes predictions, scores and confusion matrices to the run.
    """
    with console.progress(f"evaluate {run.name}") as bar:
        metrics = project.evaluate(run, progress=bar, **options)
    for mismatch in {scores["label_mismatch"] for scores in metrics.values() if "label_mismatch" in scores}:
        console.warn(f"run and dataset have different entity types: {mismatch}")
    lines = []
    for split, scores in metrics.items():
        strict, lenient = scores["strict"]["micro"], scores["lenient"]["micro"]
        rates = f"P {strict['precision']:.4f} R {strict['recall']:.4f} F1 {strict['f1']:.4f}"
        synthetic = ", synthetic models" if scores["synthetic"] else ""
        lines.append(f"evaluate {run.name}: {split} {rates} (lenient {lenient['f1']:.4f}{synthetic})")
    print_result(metrics, *lines)


@click.command(cls=Examples, example="fmit predict posts.jsonl --run runs/smoke-fmit-0 --images data/smoke/images")
@click.argument("posts", type=console.EXISTING_FILE, required=False)
@console.run_option
@click.option("--text", help="A post's text, instead of a file.")
@click.option("--images", type=EXISTING_FOLDER, help="Folder of the posts' images.  [default: none, text only]")
@click.option("--format", type=click.Choice(["jsonl", "conll", "text"]), help=format_help)
@click.option("--out", type=FILE, help="JSONL to write.  [default: stdout]")
@click.option("--strict", is_flag=True, help="Stop at a post that cannot be read.  [default: report and skip it]")
@console.device_option
@console.allow_synthetic_option
def predict(
    posts: Path | None, run: Path, text: str | None, images: Path | None, out: Path | None, strict: bool, **more: Any
) -> None:
    """Find entities in the posts of a file.

    POSTS is JSONL, CoNLL or text, with or without images and labels. Writes one line of JSONL per post.
    """
    import fmit
    from cache import atomic
    from pipeline.corpus.records import ReadLog

    if (posts is None) == (text is None):
        raise click.UsageError("give POSTS or --text")
    format = more.pop("format")
    model = fmit.load(run, **more)
    on_error = None if strict else lambda error: click.echo(f"skipped: {safe_text(error, None)}", err=True)
    log = ReadLog(on_error, foreign_labels=True)
    states: Counter[str] = Counter()

    def lines(bar: console.Progress) -> Iterator[str]:
        predictions = model.predict([text or ""], images, log)
        if posts:
            predictions = model.predict_file(posts, images=images, format=format, progress=bar, log=log)
        for prediction in predictions:
            states.update(image.state for image in prediction.post.images)
            yield inert_json(prediction.to_json()) + "\n"

    with console.progress("predict") as bar:
        if out is None:
            for line in lines(bar):
                click.echo(line, nl=False)
        else:
            with atomic.file(out) as temporary, temporary.open("w", encoding="utf-8") as file:
                file.writelines(lines(bar))
            note(f"predictions are in {out}")
    if n_unusable := states.total() - states["ok"]:
        reasons = ", ".join(f"{states[state]} {state}" for state in ("missing", "broken", "refused") if states[state])
        unread = f"the posts name {n_unusable} image(s), but none was opened: give their folder with --images"
        unusable = f"{n_unusable} of {states.total()} image(s) cannot be used: {reasons}"
        note(f"{unusable}; the model reads an empty image instead" if images else unread)
    if log.n_without_gold:
        examples = ", ".join(f"{name} ({n})" for name, n in log.unknown.most_common(5))
        what = f"{log.n_without_gold} post(s) have labels unknown to the run; their gold labels are ignored"
        note(f"{what}: {examples}")
    if log.n_left_out:
        note(f"{log.n_left_out} post(s) could not be read and were skipped")


@click.command(cls=Examples, example="fmit report --run runs/smoke-fmit-0")
@console.run_option
@click.option("--dataset", help="The dataset with the images.  [default: the run's own]")
@click.option("--out", type=FILE, help="The page to write.  [default: report.html in the run]")
@console.redact_option
@console.project_option
def report(run: Path, dataset: str | None, out: Path | None, redact: bool, project: "Project") -> None:
    """Write the report of a run.

    A single HTML file that works offline, with scores, learning curves, errors, and posts with images and boxes.
    """
    import pages

    page = pages.report(project, run, out, dataset=dataset, redact=redact)
    click.echo(f"report {run.name}: open {page}")


@click.command(cls=Examples, example="fmit summary")
@console.project_option
@console.json_option
def summary(project: "Project") -> None:
    """Print the scores of the project's runs and the paths of their reports."""
    import pages

    scores = pages.summary(project)
    if scores:
        lines = [f"open {page}" for page in dict.fromkeys(row["report"] for row in scores) if page]
        if any(row["ceiling"] is not None for row in scores):
            lines.insert(0, "ceiling: the highest F1 that can be expected from what the approach reads")
    else:
        names = ", ".join(run.name for run, _ in project.runs()) or "none: see train_on, approaches and seeds"
        lines = [f"no scored run yet; params.yaml names {names}"]
        lines.append("`dvc repro` trains and scores all of them, `fmit train` and `fmit evaluate` a single one")
    columns = ("run", "split", "precision", "recall", "f1", "ceiling")
    rows = [["-" if row[name] is None else row[name] for name in columns] for row in scores]
    print_result(scores, *lines, table=("strict micro scores", columns, rows))
