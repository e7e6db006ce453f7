"""The small parts that ship: train them again, and measure them."""

from __future__ import annotations

from pathlib import Path

import click

from commands.console import GOES_ON, Examples, json_option, note, print_json, print_record, progress

treebank_argument = click.argument("treebank", type=click.Path(path_type=Path, dir_okay=False, exists=True))
out_option = click.option("--out", type=click.Path(path_type=Path), help="[default: weights]")


@click.group()
def embedded() -> None:
    """Train and measure the small parts that ship."""


@embedded.command(
    "train-parser",
    cls=Examples,
    example="fmit embedded train-parser gum.ptb --out parser.safetensors",
    after=GOES_ON,
)
@treebank_argument
@click.option("--out", type=click.Path(path_type=Path), help="[default: the embedded parser's file]")
def train_parser(treebank: Path, out: Path | None) -> None:
    """Train the embedded parser on Penn-style trees; an interrupted training goes on."""
    from cache.weights import EMBEDDED
    from synthetic import parser_training

    target = out or EMBEDDED / "parser.safetensors"
    for epoch in parser_training.train(treebank, target, resume=Path(".fmit/resume/parser")):
        note(f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, held-out noun-phrase F1 {epoch.held_out.f1:.4f}")
    click.echo(f"parser: {target}")


@embedded.command("score-parser", cls=Examples, example="fmit embedded score-parser gum.ptb")
@treebank_argument
@click.option("--held-out", is_flag=True, help="Only the blocks of the file that `train-parser` does not train on.")
@json_option
def score_parser(treebank: Path, held_out: bool, as_json: bool) -> None:
    """Noun-phrase P, R, F1 of the embedded parser on Penn-style trees (micro, all sentences, gold words)."""
    from pipeline.phrases.config import PhrasesConfig
    from pipeline.phrases.registry import build_parser
    from synthetic.parser_training import score

    parser = build_parser(PhrasesConfig())
    if held_out:
        from synthetic.parser_training import held_out as split
        from synthetic.treebank import read

        found = score(split(read(treebank))[1], parser)
    else:
        found = score(treebank, parser)
    if as_json:
        print_json({**found.to_json(), "n_sentences": found.n_sentences})
        return
    click.echo(f"noun phrases: P {found.precision:.4f} R {found.recall:.4f} F1 {found.f1:.4f}, on edited text")


@embedded.command("train-toys", cls=Examples, example="fmit embedded train-toys --out /tmp/toys", after=GOES_ON)
@out_option
def train_toys(out: Path | None) -> None:
    """Train the synthetic ResNet and the synthetic grounder on drawn scenes (about 45 minutes); interrupted, they go on."""
    import shutil

    from cache.weights import EMBEDDED
    from synthetic import grounder_training

    folder = out or EMBEDDED
    for name, train in (
        (grounder_training.RESNET, grounder_training.train_resnet),
        (grounder_training.GROUNDER, grounder_training.train_grounder),
    ):
        with progress(f"train {name}") as bar:
            for result in train(folder / f"{name}.safetensors"):
                bar(result.step, result.n_steps)
        click.echo(f"{name}: {folder / name}.safetensors")
    shutil.rmtree(
        grounder_training.WORK, ignore_errors=True
    )  # the drawn sets: hundreds of megabytes, drawn again when needed


@embedded.command("score-toys", cls=Examples, example="fmit embedded score-toys --scenes 100")
@click.option("--scenes", default=1000, show_default=True, help="Unseen scenes to draw.")
@json_option
def score_toys(scenes: int, as_json: bool) -> None:
    """Box accuracy and kind accuracy of the synthetic parts on scenes that they never saw."""
    from synthetic import grounder_training

    found = grounder_training.score(scenes)
    if as_json:
        print_json(found)
        return
    print_record({name: f"{value:.4f}" if isinstance(value, float) else value for name, value in found.items()})


COMMANDS = (embedded,)
