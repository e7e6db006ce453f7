"""Weights in their publishers' layouts, turned into files that hold tensors alone."""

from __future__ import annotations

from pathlib import Path

import click

from commands.console import Examples

EXAMPLE = "fmit models convert onestage flickr_best.pth.tar --words words.txt"


@click.group()
def convert() -> None:
    """Turn released weights into safetensors."""


@convert.command(cls=Examples, example=EXAMPLE)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("out", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option(
    "--words",
    type=click.Path(path_type=Path, exists=True),
    help="BERT's vocab.txt or its folder; for an LSTM the toolkit's corpus.pth, or its words line by line.  "
    "[default: bert-base-uncased where it was fetched]",
)
@click.option("--trained-on", help="flickr, referit or refcoco: decides the anchors.  [default: as the file is named]")
@click.option("--size-px", default=256, show_default=True, help="Side of the network's input; 256 in the release.")
def onestage(file: Path, out: Path | None, words: Path | None, trained_on: str | None, size_px: int) -> None:
    """Convert the one-stage grounder's FILE.pth.tar (Yang et al., 2019) into the folder OUT.

    Without OUT into .fmit/models/onestage, where `grounder: onestage` looks. Only tensors are unpickled.
    """
    from pipeline.grounding.onestage.release import convert as run

    from cache import hub, weights
    from cache.run_files import refuse_strange
    from schema.errors import WeightsError

    given = words or hub.snapshot("bert-base-uncased")
    if given is None:
        todo = "give --words, or fetch bert-base-uncased from the hub"
        raise WeightsError("the words of the text encoder are not in the file", where=str(file), todo=todo)
    target = out or weights.folder() / "onestage"
    refuse_strange(target, r"model\.safetensors|config\.json|vocab\.txt|words\.txt")
    made = run(file, target, words=given, trained_on=trained_on or "", size_px=size_px)
    click.echo(f"converted {file.name}: {target} ({made['text']}, anchors of {made['trained_on']})")
