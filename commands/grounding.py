"""`fmit grounding`: are the boxes of a run's entities right? Against gold boxes as XML, or those of a drawn dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.console import Examples, finite, json_option
from schema.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from report.grounding import GoldBoxes
    from report.runs import Line


folder = click.Path(path_type=Path, file_okay=False)
existing = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command(cls=Examples, example="fmit grounding --run runs/smoke-fmit-0 --gold gmner/xml")
@click.option("--run", "run", type=folder, required=True, help="A run's folder.")
@click.option("--gold", type=existing, required=True, help="Folder of XML files, or of a dataset drawn by fmit draw.")
@click.option("--split", help="Scored posts to look at.  [default: the first of test, dev, train that are there]")
@click.option("--min-score", type=float, callback=finite, help="Boxes that the grounder gives less count as none.")
@json_option
def grounding(run: Path, gold: Path, split: str | None, min_score: float | None, as_json: bool) -> None:
    """Score a run's entities together with their boxes.

    An entity is right with its words, its type, and a box of IoU >= 0.5 with a gold box. Gold boxes are read as
    Twitter-GMNER has them: an XML file a picture, an object a box, named by the entity's words. A box is the grounder's
    choice for the noun phrase around an entity, no evidence that the tagger used it.
    """
    from commands.console import print_json, print_table
    from report.grounding import SCORES, score
    from report.runs import read_run

    found = read_run(run)
    name = split or next(iter(found.lines), "")
    if name not in found.lines:
        raise RunError(f"not scored on {name}", where=str(run), found=", ".join(found.lines), todo="fmit evaluate")
    lines = [line for line in found.lines[name] if line.gold is not None]
    boxes, remark = gold_boxes(lines, gold)
    scores = score(lines, boxes, min_score)
    if as_json:
        print_json(
            {"split": name, "synthetic": found.synthetic, "scores": {one: scores[one].to_json() for one in SCORES}}
        )
        return
    rows = [[one, scores[one].precision, scores[one].recall, scores[one].f1] for one in SCORES]
    print_table(f"{run.name}, {name}", ("", "P", "R", "F1"), rows)
    n_shown = sum(bool(some) for some in boxes.values())
    click.echo(
        f"{n_shown} of {len(boxes)} gold entities have a box{remark}{', synthetic parts' if found.synthetic else ''}"
    )
    click.echo("MNER: words and type; EEG: words and box; GMNER: all three")


def gold_boxes(lines: Sequence[Line], folder: Path) -> tuple[GoldBoxes, str]:
    """Gold boxes of the lines' entities, and a remark; from XML files, or from a drawn dataset's own gold."""
    from pages import synthetic_boxes
    from report.grounding import match
    from synthetic.gold import FILE

    if (folder / FILE).is_file():
        return synthetic_boxes(lines, folder), ""
    found = match(lines, folder)
    notes = [(found.n_strays, "names are no entity"), (found.n_nameless, "objects without a name")]
    notes.append((found.n_scaled, "files of another size, scaled"))
    return found.boxes, f" in {found.n_files} files" + "".join(f"; {n} {what}" for n, what in notes if n)


COMMANDS = (grounding,)
