"""How much phrases and boxes contribute: FMIT on {gold, model, no} phrases x {gold, model, random} synthetic boxes.

    python -m bench.phrase_boxes --dataset smoke

Needs a dataset that `fmit draw` wrote and the stages up to `phrases` (`dvc repro --glob 'phrases@*'`). Gold phrases and
boxes are those of the synthetic images (synthetic.draw): a general word's gold box is that of the first name of its
type, a phrase's that of the object whose phrase shares most of its words; otherwise the whole image. Each pair is a
project of its own below --work; it shares the store of the project in the current folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from cache import tables
from pages import synthetic_boxes
from pipeline.engine import silent
from project import Project
from report.grounding import SCORES, score
from report.layout import span_text
from report.runs import read_predictions
from schema.records import Box, Phrase, Post, PostPhrases, Span
from synthetic.draw import GoldObject, GoldPost, read_gold

PHRASES, BOXES = ("gold", "model", "no"), ("gold", "model", "random")
APPROACH = "fmit"


def pair_project(home: Project, dataset: str, work: Path, boxes: str) -> Project:
    """A project with the same posts and phrases, and the grounder of a pair."""
    block = home.params.dataset(dataset)
    ground = {"grounder": "random"} if boxes == "random" else block.ground
    data = {dataset: block.model_copy(update={"ground": ground})}
    project = Project(work, home.params.model_copy(update={"data": data}))
    project.data(dataset).parent.mkdir(parents=True, exist_ok=True)
    if not project.data(dataset).exists():
        project.data(dataset).symlink_to(home.data(dataset).resolve())
    project.out(dataset, "pack").parent.mkdir(parents=True, exist_ok=True)
    for name in ("posts.parquet", "phrases.parquet"):
        shutil.copy(home.out(dataset, name), project.out(dataset, name))
    return project


def use_phrases(project: Project, dataset: str, spans: Mapping[str, Sequence[Span]]) -> None:
    """Replace phrases.parquet by these spans of each post, none for posts without any."""
    posts = tables.read_posts(project.out(dataset, "posts.parquet")).posts
    path = project.out(dataset, "phrases.parquet")
    rows = [
        PostPhrases(post.id, tuple(Phrase(span, span_text(post.words, span)) for span in spans.get(post.id, ())))
        for post in posts
    ]
    tables.write_phrases(path, rows, tables.read_phrases(path)[1])


def use_gold_boxes(project: Project, dataset: str, gold: Mapping[str, GoldPost]) -> None:
    """Replace each box of boxes.parquet by the gold box of its phrase or general word."""
    posts = {post.id: post for post in tables.read_posts(project.out(dataset, "posts.parquet")).posts}
    words = project.source(dataset).label_set().words
    path = project.out(dataset, "boxes.parquet")
    boxes, meta = tables.read_boxes(path)
    for post_id, regions in boxes.items():
        post, answers = posts[post_id], gold[post_id]
        boxes[post_id] = [
            replace(region, box=gold_box(region.span, region.text, region.image_index, post, answers, words))
            for region in regions
        ]
    part = {**meta["ground"], "config": {"grounder": "gold"}, "identity": {"name": "gold"}, "synthetic": False}
    tables.write_boxes(path, boxes.items(), {**meta, "ground": part})


def gold_box(
    span: Span | None, text: str, image_index: int, post: Post, gold: GoldPost, words: Mapping[str, str]
) -> Box:
    """The gold box of a phrase, or of a general word (`span` is None)."""
    if span is None:
        match = next((name for name in gold.names if words.get(name.type) == text), None)
    else:
        match = best_overlap(span, (*gold.names, *gold.others))
    image = post.images[image_index]
    whole = Box(0, 0, image.width, image.height, image_index)
    return replace(match.box, image_index=image_index) if match else whole


def best_overlap(span: Span, objects: Sequence[GoldObject]) -> GoldObject | None:
    """The object whose phrase shares the largest part of its words with `span`; None if none shares any."""

    def share(phrase: Span) -> float:
        common = min(span.end, phrase.end) - max(span.start, phrase.start)
        return common / (max(span.end, phrase.end) - min(span.start, phrase.start))

    overlapping = [item for item in objects if item.phrase and item.phrase.overlaps(span)]
    return max(overlapping, key=lambda item: share(item.phrase) if item.phrase else 0.0, default=None)


def measure(project: Project, dataset: str, split: str, device: str) -> list[float]:
    """Train and score FMIT on a pair's pack; F1 of each of `SCORES`."""
    run = project.run(dataset, APPROACH, 0)
    if not project.is_up_to_date(run, dataset, APPROACH, 0):
        list(project.train(dataset, APPROACH, 0, device=device))
    project.evaluate(run, [split], dataset=dataset, device=device)
    lines = [line for line in read_predictions(run / "scores" / f"predictions-{split}.jsonl") if line.gold is not None]
    scores = score(lines, synthetic_boxes(lines, project.data(dataset)))
    return [scores[name].f1 for name in SCORES]


@click.command()
@click.option("--dataset", default="smoke", show_default=True)
@click.option("--split", default="test", show_default=True)
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), default=Path("bench/results/phrase-boxes"))
@click.option("--device", default="auto", show_default=True)
def main(dataset: str, split: str, work: Path, device: str) -> None:
    """Prepare, train and score the nine pairs, and print their table."""
    home = Project.open()
    os.environ["FMIT_STORE"] = str(home.store.resolve())
    gold = read_gold(home.data(dataset))
    click.echo(f"{'phrases':<10}{'boxes':<10}" + "".join(f"{name:>8}" for name in SCORES))
    for phrases in PHRASES:
        for boxes in BOXES:
            project = pair_project(home, dataset, work / f"{phrases}-{boxes}", boxes)
            if phrases != "model":
                spans = {
                    name: sorted({item.phrase for item in (*post.names, *post.others) if item.phrase})
                    for name, post in gold.items()
                }
                use_phrases(project, dataset, spans if phrases == "gold" else {})
            project.ground(dataset, silent)
            if boxes == "gold":
                use_gold_boxes(project, dataset, gold)
            project.regions(dataset, silent)
            figures = measure(project, dataset, split, device)
            click.echo(f"{phrases:<10}{boxes:<10}" + "".join(f"{100 * f1:8.2f}" for f1 in figures))


if __name__ == "__main__":
    main()
