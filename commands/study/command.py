"""`fmit tables`: the paper's tables and figures beside ours, from runs that are trained where they are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.console import GOES_ON, Examples, note, params_option_of
from schema.errors import FmitError, PackError, RunError

if TYPE_CHECKING:
    from commands.study.study import Study, Unit


TABLES = ("1", "2", "3", "4", "5")
STEPS = ("prepare", "train", "cross", "measure", "ground", "publish")
ONLY_HELP = """The paper's tables to make: 1 the data, 2 all approaches, 3 speed and size, 4 other data, 5 ablations;
may be repeated.  [default: all]"""
STEPS_HELP = """Do these alone: features, trainings, scores on other data, Table 3, phrases against boxes, the results;
may be repeated.  [default: all steps]"""
TINY_HELP = """All tables from a few drawn posts, in minutes: proves the machinery. Its runs are in tables/tiny, or in
OUT-study where --out is given."""
TINY_ROOT = Path("tables/tiny")
params_option = params_option_of("tables/params.yaml", "What the tables hold.")


@dataclass(frozen=True)
class Chosen:
    """What a call is about: units to train, and the approaches whose runs it asks for."""

    datasets: tuple[str, ...]
    approaches: tuple[str, ...]
    units: tuple[Unit, ...]


@click.command(cls=Examples, example="fmit tables --only 5", after=GOES_ON)
@click.option("--only", type=click.Choice(TABLES), multiple=True, help=ONLY_HELP)
@click.option("--dataset", "datasets", multiple=True, help="May be repeated.  [default: those of the params]")
@click.option("--approach", "approaches", multiple=True, help="May be repeated.  [default: those of the params]")
@click.option("--seed", "seeds", type=int, multiple=True, help="May be repeated.  [default: those of the params]")
@click.option("--step", "steps", type=click.Choice(STEPS), multiple=True, help=STEPS_HELP)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="[default: results beside the params]")
@click.option("--tiny", is_flag=True, help=TINY_HELP)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@params_option
def tables(
    only: tuple[str, ...],
    datasets: tuple[str, ...],
    approaches: tuple[str, ...],
    seeds: tuple[int, ...],
    steps: tuple[str, ...],
    out: Path | None,
    tiny: bool,
    device: str,
    params_path: Path,
) -> None:
    """Train every approach, and set the paper's figures beside ours.

    On every dataset and seed of the settings. Runs that are there for today's settings, posts and features are kept,
    interrupted ones go on. Writes Markdown, CSV and a page with all tables and figures; rows without runs say so.
    """
    from commands.study.study import Study

    study = _tiny(out) if tiny else Study.read(params_path)
    chosen = choose(study, only, datasets, approaches, seeds)
    run_steps(study, chosen, steps or STEPS, only or TABLES, out or study.root / "results", device)


def choose(
    study: Study, only: Sequence[str], datasets: Sequence[str], approaches: Sequence[str], seeds: Sequence[int]
) -> Chosen:
    """The units that tables and options leave; raises ConfigError for names that the params do not hold."""
    from commands.study.study import pick
    from commands.study.tiny import DATASETS
    from report.results import published

    asked = study.asked
    wanted = {name: set(published().approaches(f"table{name}")) for name in ("2", "4", "5")}
    needed = set().union(*(wanted.get(name, set()) for name in only or TABLES))
    names = tuple(pick("approaches", approaches, asked.approaches) or [a for a in asked.approaches if a in needed])
    places = tuple(pick("datasets", datasets, asked.datasets) or asked.datasets)
    numbers = set(pick("seeds", seeds, asked.seeds) or asked.seeds)
    units = [unit for unit in study.units() if unit.approach in names and unit.dataset in places]
    if asked.tiny:  # the second dataset serves Table 4 alone
        units = [unit for unit in units if unit.dataset == DATASETS[0] or unit.approach in wanted["4"]]
    return Chosen(places, names, tuple(unit for unit in units if unit.seed in numbers))


def run_steps(study: Study, chosen: Chosen, steps: Sequence[str], only: Sequence[str], out: Path, device: str) -> None:
    """Carry out the steps; results are printed and published last."""
    from cache.run_files import refuse_strange, refuse_unwritable
    from commands.study import steps as doing
    from report.book import WRITTEN
    from report.results import published

    failed: doing.Failed = {}
    if "publish" in steps:  # before hours of work
        refuse_unwritable(out)
        refuse_strange(out, WRITTEN)
    if "prepare" in steps:
        for dataset in chosen.datasets:
            doing.prepare(study, dataset, note)
    if "train" in steps:
        failed = doing.train_all(study, chosen.units, chosen.approaches, note, device)
    if "cross" in steps and "4" in only:
        rows = published().approaches("table4")
        doing.cross_all(study, [name for name in chosen.approaches if name in rows], note, device, failed)
    if "ground" in steps and set(only) == set(TABLES):
        for dataset in chosen.datasets:
            with doing.telling(failed, (dataset, "pairs"), f"no grounding quality of {dataset}", note):
                ground(study, dataset, device)
    if "measure" in steps and "3" in only:
        with doing.telling(failed, ("", "fusion"), "no Table 3", note):
            doing.measure(study.root / "fusion.json", note, *(["--tiny"] if study.asked.tiny else []))
    if "publish" in steps:
        _publish(study, only, {whose: str(error) for whose, error in failed.items()}, out)
    refuse_failed(failed)


def refuse_failed(failed: Mapping[tuple[str, str], FmitError]) -> None:
    """Raise RunError where a step failed, now that the others are done; a setting's missing features are no failure."""
    errors = [error for error in failed.values() if not isinstance(error, PackError)]
    if errors:
        todo = "mend it, then give the same command again: what is done stays"
        raise RunError(f"{len(errors)} part(s) of the tables failed", found=str(errors[0]), todo=todo)


def ground(study: Study, dataset: str, device: str) -> None:
    """The runs of the table of grounding quality, where the dataset has gold boxes; tiny: of the first dataset."""
    from commands.study import phrase_boxes
    from commands.study.tiny import DATASETS

    (study.root / "pairs" / dataset).mkdir(parents=True, exist_ok=True)  # an out of the DVC stage, empty or not
    if phrase_boxes.is_drawn(study, dataset) and not (study.asked.tiny and dataset != DATASETS[0]):
        phrase_boxes.train_pairs(study, dataset, note, device)


def _publish(study: Study, only: Sequence[str], failed: dict[tuple[str, str], str], out: Path) -> None:
    from commands.study import phrase_boxes
    from report.book import compile_book, publish
    from report.layout import markdown
    from report.results import published, read_fusion

    field = study.field(failed=failed)
    drawn = [name for name in field.datasets if phrase_boxes.is_drawn(study, name)]
    book = compile_book(
        field,
        published(),
        {name: study.pictures(name) for name in field.datasets},
        fusion=read_fusion(study.root / "fusion.json"),
        more=[phrase_boxes.quality(study, name, field.split(name)) for name in drawn],
        n_cases=study.asked.n_cases,
        redact=study.params.report.redact,
    )
    written = publish(book, out)
    for part in book.sections:
        for table in part.tables if part.name in [f"table{name}" for name in only] else ():
            if table.has_ours:
                click.echo(markdown(table))
    for path in written:
        click.echo(f"open {path}")


def _tiny(out: Path | None) -> Study:
    from commands.study.tiny import open_tiny
    from report.results import published

    root = out.with_name(f"{out.name}-study") if out else TINY_ROOT  # a folder of its own: it writes a params.yaml
    return open_tiny(root, published().approaches("table2", "table4", "table5"))


COMMANDS = (tables,)
