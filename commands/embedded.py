"""`fmit embedded`: train and measure the small parts that ship with FMIT."""

from __future__ import annotations

from pathlib import Path

import click

from commands.console import RESUMES, Examples, json_option, note, print_json, print_record, progress

treebank_argument = click.argument("treebank", type=click.Path(path_type=Path, dir_okay=False, exists=True))


@click.group()
def embedded() -> None:
    """Train and measure the small parts that ship with FMIT."""


@embedded.command(
    "train-parser", cls=Examples, example="fmit embedded train-parser gum.ptb --out parser.safetensors", after=RESUMES
)
@treebank_argument
@click.option("--out", type=click.Path(path_type=Path), help="[default: the embedded parser's file]")
def train_parser(treebank: Path, out: Path | None) -> None:
    """Train the embedded parser on Penn-style trees.

    An interrupted training resumes.
    """
    from cache.weights import EMBEDDED
    from synthetic import parser_training

    target = out or EMBEDDED / "parser.safetensors"
    for epoch in parser_training.train(treebank, target, resume=Path(".fmit/resume/parser")):
        note(f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, held-out noun-phrase F1 {epoch.held_out.f1:.4f}")
    click.echo(f"parser: {target}")


@embedded.command("score-parser", cls=Examples, example="fmit embedded score-parser gum.ptb")
@treebank_argument
@click.option("--held-out", is_flag=True, help="Only the part of the file that `train-parser` does not train on.")
@json_option
def score_parser(treebank: Path, held_out: bool, as_json: bool) -> None:
    """Score the embedded parser's noun phrases on Penn-style trees.

    Micro-averaged precision, recall and F1 over all sentences, with gold words.
    """
    from pipeline.phrases.config import PhrasesConfig, build_parser
    from synthetic import parser_training
    from synthetic.treebank import read

    trees = parser_training.held_out(read(treebank))[1] if held_out else treebank
    result = parser_training.score(trees, build_parser(PhrasesConfig()))
    if as_json:
        print_json({**result.to_json(), "n_sentences": result.n_sentences})
        return
    click.echo(f"noun phrases: P {result.precision:.4f} R {result.recall:.4f} F1 {result.f1:.4f}, on edited text")


@embedded.command("train-toys", cls=Examples, example="fmit embedded train-toys --out /tmp/toys", after=RESUMES)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write.  [default: weights]")
def train_toys(out: Path | None) -> None:
    """Train the synthetic ResNet and grounder on drawn scenes (about 45 minutes).

    An interrupted training resumes.
    """
    import shutil

    from cache.weights import EMBEDDED
    from synthetic import grounder_training as training

    folder = out or EMBEDDED
    trainings = {training.RESNET: training.train_resnet, training.GROUNDER: training.train_grounder}
    for name, train in trainings.items():
        with progress(f"train {name}") as bar:
            for result in train(folder / f"{name}.safetensors"):
                bar(result.step, result.n_steps)
        click.echo(f"{name}: {folder / name}.safetensors")
    shutil.rmtree(training.WORK, ignore_errors=True)  # hundreds of megabytes of scenes, drawn again when needed


@embedded.command("score-toys", cls=Examples, example="fmit embedded score-toys --scenes 100")
@click.option("--scenes", default=1000, show_default=True, help="Number of unseen scenes to draw.")
@json_option
def score_toys(scenes: int, as_json: bool) -> None:
    """Score the synthetic parts on unseen drawn scenes: accuracy of boxes and of kinds."""
    from synthetic import grounder_training

    scores = grounder_training.score(scenes)
    if as_json:
        print_json(scores)
        return
    print_record({name: f"{value:.4f}" if isinstance(value, float) else value for name, value in scores.items()})


COMMANDS = (embedded,)
