"""`fmit grounding`: scores of a run's entities with their boxes, or of a grounder's boxes for gold phrases."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.console import Examples, finite, json_option
from schema.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL.Image import Image

    from pipeline.grounding.grounder import Grounder
    from report.grounding import Corners, GoldBoxes, GoldPhrase
    from schema.prediction import Prediction


folder = click.Path(path_type=Path, file_okay=False)
existing = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command(cls=Examples, example="fmit grounding --gold boxes.jsonl --images images")
@click.option("--run", "run", type=folder, help="A run's folder.  [default: none, score a grounder]")
@click.option(
    "--gold",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="Folder of XML files, or of a dataset drawn by fmit draw; without --run also a JSONL file of phrases.",
)
@click.option("--split", help="Scored posts to look at.  [default: the first of test, dev, train that are there]")
@click.option("--min-score", type=float, callback=finite, help="Boxes that the grounder gives less count as none.")
@click.option("--images", type=existing, help="Folder of the images.  [default: images beside --gold]")
@click.option("--grounder", default="detector", show_default=True, help="The grounder to score without --run.")
@click.option("--detector", default="nanodet-g", show_default=True, help="The detector of the grounder `detector`.")
@json_option
def grounding(
    run: Path | None,
    gold: Path,
    split: str | None,
    min_score: float | None,
    images: Path | None,
    grounder: str,
    detector: str,
    as_json: bool,
) -> None:
    """Score a run's entities with their boxes, or a grounder on gold phrases.

    An entity is right with its words, its type, and a box of IoU >= 0.5 with a gold box. Gold boxes are read as
    Twitter-GMNER has them: an XML file an image, an object a box, named by the entity's words. A box is the grounder's
    choice for the noun phrase around an entity; it does not show that the tagger used it.

    Without --run, gold phrases come from these XML files or from a JSONL file: one line an image, with `image` and
    `phrases` (`text`, and `box` or null).
    """
    if run is None:
        score_grounder(gold, images or gold.parent / "images", {"grounder": grounder, "detector": detector}, as_json)
    else:
        score_run(run, gold, split, min_score, as_json)


def score_run(run: Path, gold: Path, split: str | None, min_score: float | None, as_json: bool) -> None:
    """Print the scores of a run's entities with their boxes."""
    from commands.console import print_json, print_table
    from report.grounding import SCORES, score
    from report.runs import read_run

    found = read_run(run)
    name = split or next(iter(found.predictions), "")
    if name not in found.predictions:
        splits = ", ".join(found.predictions)
        raise RunError(f"not scored on {name}", where=str(run), found=splits, todo="fmit evaluate")
    lines = [line for line in found.predictions[name] if line.gold is not None]
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


def score_grounder(gold: Path, folder: Path, section: dict[str, str], as_json: bool) -> None:
    """Print a grounder's quality on gold phrases, beside boxes that ignore the image and the detector's ceiling."""
    from commands.console import print_json, print_table
    from pipeline.grounding.config import GroundConfig
    from pipeline.grounding.controls import RandomBox, WholeImage
    from pipeline.grounding.detector import DetectorGrounder
    from pipeline.grounding.registry import build_grounder
    from report.grounding import ceiling, centre_box, evaluate

    phrases, pixels = read_phrases(gold, folder)
    grounder = build_grounder(GroundConfig.from_section(section, "ground", {}))
    boxes = {
        section["grounder"]: ground_phrases(grounder, phrases, pixels),
        "whole image": ground_phrases(WholeImage(), phrases, pixels),
        "centre box": [(centre_box(*pixels[one.image].size), 0.0) for one in phrases],
        "random boxes": ground_phrases(RandomBox(), phrases, pixels),
    }
    qualities = {name: evaluate(phrases, some) for name, some in boxes.items()}
    best = None
    if isinstance(grounder, DetectorGrounder):
        best = ceiling(phrases, {name: grounder.candidates(image) for name, image in pixels.items()})
    n_visible = sum(bool(one.boxes) for one in phrases)
    if as_json:
        scores = {name: asdict(quality) for name, quality in qualities.items()}
        print_json({"n_phrases": len(phrases), "n_visible": n_visible, "scores": scores, "ceiling": best})
        return
    rows = [[name, one.accuracy, one.n_right, one.average_precision or "-"] for name, one in qualities.items()]
    rows += [["any detection", best, "", ""]] if best is not None else []
    title = f"{len(phrases)} phrases on {len(pixels)} images, {n_visible} visible ({n_visible / len(phrases):.3f})"
    print_table(title, ("box", "accuracy", "right", "AP"), rows)
    click.echo("accuracy: IoU >= 0.5 on visible phrases; AP: of the score, at telling visible phrases from others")


def read_phrases(gold: Path, folder: Path) -> tuple[list[GoldPhrase], dict[str, Image]]:
    """Gold phrases, and the decoded images that they are on."""
    from report.grounding import read_gold
    from schema.errors import DataError
    from vision import images

    if not folder.is_dir():
        raise DataError("no folder of images", where=str(folder), todo="give the folder of the images with --images")
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    found = {name: images.probe(folder, name) for name in names}
    phrases = read_gold(gold, {name: (one.width, one.height) for name, one in found.items() if one.ok})
    return phrases, {name: images.load(folder, found[name]) for name in dict.fromkeys(one.image for one in phrases)}


def ground_phrases(
    grounder: Grounder, phrases: Sequence[GoldPhrase], pixels: Mapping[str, Image]
) -> list[tuple[Corners, float]]:
    """A box and a score for each phrase, in order."""
    from pipeline.grounding.grounder import ground_images

    answers = {}
    for name, image in pixels.items():
        texts = [one.text for one in phrases if one.image == name]
        answers[name] = iter(ground_images(grounder, [image], [texts])[0])
    return [(found.xyxy, found.score) for found in (next(answers[one.image]) for one in phrases)]


def gold_boxes(lines: Sequence[Prediction], folder: Path) -> tuple[GoldBoxes, str]:
    """Gold boxes of the lines' entities, and a remark; from XML files, or from a drawn dataset's own gold."""
    from pages import synthetic_boxes
    from report.grounding import match
    from synthetic.gold import FILE

    if (folder / FILE).is_file():
        return synthetic_boxes(lines, folder), ""
    found = match(lines, folder)
    notes = [(found.n_unmatched, "names are no entity"), (found.n_nameless, "objects without a name")]
    notes.append((found.n_scaled, "files of another size, scaled"))
    return found.boxes, f" in {found.n_files} files" + "".join(f"; {n} {what}" for n, what in notes if n)


COMMANDS = (grounding,)
