"""Commands that show results: show, sheet, export, compare, grounding, tables."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands import console
from commands.console import EXISTING_FOLDER, FILE, FOLDER, Examples, project_option, redact_option

if TYPE_CHECKING:
    from project import Project

gold_help = "XML files, or a dataset drawn by fmit draw; without --run also a JSONL file of phrases."
only_help = """Print only this table; repeatable: 1 data, 2 approaches, 3 speed and size, 4 cross-domain, 5 ablations.
All tables are written in any case."""
fusion_help = "Output of `python -m bench.fusion --out FILE`, for Table 3.  [default: fusion.json in the project]"
html_option = click.option("--html", "page", type=FILE, help="Write an HTML page.")
N_SHOWN = 20  # posts that differ on a terminal; --json and --html have them all


@click.command(cls=Examples, example="fmit show test-00001 --dataset smoke")
@click.argument("post_id")
@click.option("--dataset", required=True, help="A dataset of params.yaml.")
@html_option
@redact_option
@project_option
def show(post_id: str, dataset: str, page: Path | None, redact: bool, project: "Project") -> None:
    """Show the intermediate results for one post.

    Prints words, normalized words, noun phrases, images, boxes, and the lattice objects with head and tail positions.
    """
    from rich.console import Console

    import pages
    from report import show

    if redact and not page:
        raise click.UsageError("--redact needs --html FILE")
    details, load_image = pages.post_details(project, dataset, post_id), pages.loader(project.images(dataset))
    if page:
        show.write_html(details, page, load_image=load_image, redact=redact)
        click.echo(f"open {page}")
    else:
        show.to_terminal(details, Console(), load_image=load_image)


@click.command(cls=Examples, example="fmit sheet smoke --out sheet.html")
@click.argument("dataset")
@click.option("--out", type=FILE, required=True, help="The page to write.")
@click.option("--posts", type=click.IntRange(1), default=240, show_default=True, help="Maximum number of posts.")
@redact_option
@project_option
def sheet(dataset: str, out: Path, posts: int, redact: bool, project: "Project") -> None:
    """Write a page of a dataset's images with their boxes."""
    import pages

    pages.sheet(project, dataset, out, n=posts, redact=redact)
    click.echo(f"open {out}")


@click.command(cls=Examples, example="fmit export --run runs/smoke-fmit-0 --out entities.csv")
@console.run_option
@click.option("--out", type=FILE, required=True, help="A .csv or .json file.")
@redact_option
def export(run: Path, out: Path, redact: bool) -> None:
    """Write a run's gold and predicted entities as a table.

    One row per outcome (correct, wrong type, missed, ...). Cells are escaped so that no spreadsheet runs a formula.
    """
    from report import errors

    if out.suffix not in (".csv", ".json"):
        raise click.BadParameter(f"{str(out)!r} must end in .csv or .json", param_hint="--out")
    click.echo(f"{errors.export(run, out, redact=redact)} entities in {out}")


@click.command(cls=Examples, example="fmit compare runs/smoke-fmit-0 runs/smoke-bert-crf-0 --split dev")
@click.argument("first", type=FOLDER, shell_complete=console.complete_run)
@click.argument("second", type=FOLDER, shell_complete=console.complete_run)
@click.option("--split", help="Split to compare on.  [default: the first of test, dev, train that both have]")
@html_option
@click.option("--redact", is_flag=True, help="Hide @names and links on the page.")
@console.json_option
def compare(first: Path, second: Path, split: str | None, page: Path | None, redact: bool) -> None:
    """Test whether the F1 scores of two runs differ significantly.

    This is a paired bootstrap over posts; both runs must have been scored on the same posts.
    """
    from report import compare

    comparison = compare.compare_runs(first, second, split)
    if page:
        compare.write_html(comparison, page, redact=redact)
    differences, result = comparison.differences, comparison.bootstrap
    posts = [difference.to_json() for difference in differences[:N_SHOWN]]
    rows = [[post["id"], *("; ".join(post[side]) or "-" for side in ("gold", "first", "second"))] for post in posts]
    more = len(differences) - N_SHOWN
    better = [sum(post.better == side for post in differences) for side in (1, 2)]
    fewer = f"the first run has fewer errors in {better[0]}, the second in {better[1]}"
    interval = f"95% interval {result.low:+.4f} to {result.high:+.4f}, p = {result.p:.4f}"
    console.print_result(
        comparison.to_json(),
        *([f"and {more} more: --json or --html lists them all"] if more > 0 else []),
        f"{len(differences)} of {result.n_posts} posts differ: {fewer}",
        f"{comparison.split} F1 {result.first_f1:.4f} against {result.second_f1:.4f}: difference "
        f"{result.difference:+.4f}, {interval}{', synthetic models' if comparison.synthetic else ''}",
        *([f"open {page}"] if page else []),
        table=("posts that differ", ("post", "gold", "first", "second"), rows),
    )


@click.command(cls=Examples, example="fmit grounding --gold boxes.jsonl --images images")
@click.option("--run", type=FOLDER, shell_complete=console.complete_run, help="A run.  [default: score a grounder]")
@click.option("--gold", type=click.Path(path_type=Path, exists=True), required=True, help=gold_help)
@click.option("--split", help="Split to use.  [default: the first of test, dev, train that was scored]")
@click.option("--min-score", type=float, callback=console.finite, help="Ignore boxes with a lower grounder score.")
@click.option("--images", type=EXISTING_FOLDER, help="Folder of the images.  [default: images next to --gold]")
@click.option("--grounder", default="detector", show_default=True, help="The grounder to score without --run.")
@click.option("--detector", default="nanodet-g", show_default=True, help="The detector of the grounder `detector`.")
@console.json_option
def grounding(run: Path | None, gold: Path, split: str, min_score: float, images: Path | None, **section: str) -> None:
    """Score the boxes of a run's entities, or of a grounder on gold phrases.

    An entity is correct if its words, its type and its box are; a box needs IoU >= 0.5 with a gold box. Gold boxes have
    the format of Twitter-GMNER: one XML file per image, with an object for each box, named by the entity's words. A box
    is the grounder's choice for a noun phrase that overlaps the entity; it does not show that the tagger used the box.

    Without --run, gold phrases come from such XML files or from a JSONL file: one line per image, with `image` and
    `phrases` (`text`, and `box` or null).
    """
    import pages

    if run:
        result = pages.run_grounding(run, gold, split, min_score)
        columns = ("precision", "recall", "f1")
        rows = [[name, *(scores[column] for column in columns)] for name, scores in result["scores"].items()]
        table = (f"{run.name}, {result['split']}", ("", "P", "R", "F1"), rows)
        synthetic = ", synthetic models" if result["synthetic"] else ""
        line = f"{result['n_with_box']} of {result['n_gold']} gold entities have a box{result['remark']}{synthetic}"
        lines = [line, "MNER: words and type; EEG: words and box; GMNER: all three"]
    else:
        result = pages.phrase_grounding(gold, images or gold.parent / "images", section)
        columns = ("accuracy", "n_correct", "average_precision")
        rows = [[name, *(scores[column] or "-" for column in columns)] for name, scores in result["scores"].items()]
        rows += [["any detection", result["ceiling"], "", ""]] if result["ceiling"] is not None else []
        visible = f"{result['n_visible']} visible ({result['n_visible'] / result['n_phrases']:.3f})"
        title = f"{result['n_phrases']} phrases on {result['n_images']} images, {visible}"
        table = (title, ("box", "accuracy", "correct", "AP"), rows)
        lines = ["accuracy: IoU >= 0.5 on visible phrases; AP: how well the score tells visible phrases from others"]
    console.print_result(result, *lines, table=table)


@click.command(cls=Examples, example="fmit tables --only 5")
@click.option("--only", type=click.Choice(("1", "2", "3", "4", "5")), multiple=True, help=only_help)
@click.option("--fusion", type=console.EXISTING_FILE, help=fusion_help)
@click.option("--out", type=FOLDER, help="Folder to write.  [default: tables in the project]")
@redact_option
@project_option
def tables(only: tuple[str, ...], fusion: Path | None, out: Path | None, redact: bool, project: "Project") -> None:
    """Write the paper's tables and figures with the results of the project's runs.

    Writes a page, Markdown and CSV files: tables, posts on which approaches disagree, calibration, grounding quality.
    Does not train: a row without runs states the reason. `dvc repro` trains and scores the runs that params.yaml names.
    """
    import pages
    from report.layout import markdown

    sections, files = pages.tables(project, out, fusion=fusion, redact=redact)
    for section in sections:
        chosen = not only or section.name.removeprefix("table") in only
        for table in section.tables if chosen and section.name.startswith("table") else ():
            if table.has_ours:
                click.echo(markdown(table))
    for path in files:
        click.echo(f"open {path}")
