"""One training step of FMIT, of BERT-CRF and of the bare encoder, at the lengths of real posts.

    python -m bench.train_step                          # a BERT-base-sized encoder, random weights, on the CPU
    python -m bench.train_step --device cuda --amp bf16 --batch 16,64

Steps of the three are taken in turns; medians over rounds. FMIT reads 8 objects a post from memory, as from a pack.
Prints a table and writes bench/results/train_step-DEVICE.json.
"""

from __future__ import annotations

import itertools
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, BertConfig

from bench.timing import device_name, timed
from cache import atomic
from cache.models import minilm_folder
from cache.packs import Objects
from model.approaches import approach
from model.config import TrainConfig
from model.data import Batch, LengthBatches, PostDataset, collate
from model.distributed import ProcessGroup
from model.objects import FromMemory
from model.tagger import EncoderTagger, ModelSpec, Tagger
from model.trainer import Trainer
from schema.labels import DEFAULT_LABELS
from schema.records import Box, Post, Region, Span, joined

# Words of Twitter-2017's training posts, every 2.5th percentile (measured), and pieces a word in an uncased BERT
LENGTHS = (5, 7, 8, 9, 10, 10, 10, 11, 11, 12, 12, 12, 13, 13, 13, 14, 14, 14, 14, 15, 15, 16, 16, 16, 17, 17, 17, 18,
           18, 18, 19, 19, 20, 21, 21, 22, 23, 24, 25, 27, 50)  # fmt: skip
MORE_PIECES = 0.09  # share of words with more than one piece, 2.7 on average
OBJECT_DIM = 2048  # floats: ResNet-152
N_BATCHES = 4
ENCODERS: dict[str, dict[str, Any]] = {
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "tiny": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
}


class Bare(EncoderTagger):
    """The encoder alone: its loss is the mean of its word vectors, so that all of it gets a gradient."""

    def losses(self, batch: Batch) -> Tensor:
        return self.words(batch.inputs, len(batch)).float().mean((1, 2))


def made_posts(n_posts: int, vocabulary: Sequence[str], n_objects: int) -> tuple[list[Post], dict[str, Objects]]:
    """Posts of real lengths with words of mostly one piece and sometimes three; whole-image and phrase objects."""
    rng, numbers = random.Random(0), np.random.default_rng(0)
    posts, objects = [], {}
    for index in range(n_posts):
        n_words = rng.choice(LENGTHS)
        words = tuple(
            "@".join(rng.choices(vocabulary, k=2)) if rng.random() < MORE_PIECES else rng.choice(vocabulary)
            for _ in range(n_words)
        )
        tags = tuple(rng.choice(("O", "O", "O", "B-PER", "B-LOC")) for _ in words)
        text, offsets = joined(words)
        posts.append(Post(str(index), "train", words, text, offsets, tags))
        spans = [None] * (n_objects * 5 // 8) + [Span(k % n_words, k % n_words + 1) for k in range(n_objects * 3 // 8)]
        regions = tuple(Region("phrase" if span else "image", "", span, Box(0, 0, 9, 9), 1.0) for span in spans)
        objects[str(index)] = Objects(numbers.random((len(regions), OBJECT_DIM), np.float32), regions)
    return posts, objects


def assets(folder: Path, encoder: str) -> tuple[Path, list[str]]:
    """An encoder's configuration with a real tokenizer, and words that are one piece each."""
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder(), local_files_only=True)
    tokenizer.save_pretrained(folder)
    BertConfig(vocab_size=len(tokenizer), **ENCODERS[encoder]).save_pretrained(folder)
    return folder, sorted(word for word in tokenizer.get_vocab() if word.isalpha() and word.isascii())


def trainers(config: TrainConfig, folder: Path, vocabulary: list[str], device: str) -> dict[str, Trainer]:
    """The three sides on the same posts."""
    posts, objects = made_posts(N_BATCHES * config.batch, vocabulary, 8)
    result = {}
    for name in ("bare encoder", "bert-crf", "fmit"):
        torch.manual_seed(0)
        spec = ModelSpec(config, DEFAULT_LABELS, OBJECT_DIM, folder)
        built: Tagger = Bare(spec) if name == "bare encoder" else approach(name).build(spec)
        changed = config if name == "fmit" else approach("bert-crf").configure(config)
        data = PostDataset(posts, FromMemory(objects), DEFAULT_LABELS, built.featurizer, changed)
        result[name] = Trainer(built, data, data, changed, 0, ProcessGroup(torch.device(device)))
    return result


def batches_of(trainer: Trainer) -> list[Batch]:
    order = LengthBatches(trainer.train.n_cells(), trainer.config.batch, 10**9, 0).batches()
    made = [collate([trainer.train[row] for row in rows], trainer.tagger.featurizer) for rows in order]
    return [batch.pin_memory() for batch in made] if trainer.device.type == "cuda" else made


def crf_share(trainer: Trainer, batches: Sequence[Batch], step_s: float, device: str) -> float:
    """Share of FMIT's step that both CRFs take, forward and backward, on emissions of the same shape."""
    tagger: Any = trainer.tagger
    moved = [batch.to(device) for batch in batches]

    def work() -> None:
        for batch in moved:
            tags, boundaries = batch.gold
            for crf, gold in ((tagger.crf, tags), (tagger.boundary_crf, boundaries)):
                emissions = torch.zeros(*gold.shape, crf.num_tags, device=device, requires_grad=True)
                crf.nll(emissions, gold, batch.word_mask).sum().backward()

    work()
    return min(timed(work)[0] for _ in range(3)) / len(batches) / step_s


def measure(config: TrainConfig, folder: Path, vocabulary: list[str], device: str, rounds: int) -> dict[str, Any]:
    """Medians of a step in seconds, posts a second, and how the three relate."""
    sides = trainers(config, folder, vocabulary, device)
    batches = {name: batches_of(side) for name, side in sides.items()}
    modes = dict.fromkeys(("off", config.amp))
    times: dict[str, dict[str, list[float]]] = {mode: {name: [] for name in sides} for mode in modes}
    for round_ in range(rounds + 1):  # the first warms up
        for mode, (name, side) in itertools.product(modes, sides.items()):
            side.tagger.train()
            side.config = side.config.model_copy(update={"amp": mode})

            def steps(side: Trainer = side, name: str = name) -> None:
                for batch in batches[name]:
                    side._step([batch], len(batch), 0.5)

            took = timed(steps)[0]
            if round_:
                times[mode][name].append(took / len(batches[name]))
    step_s = {name: statistics.median(values) for name, values in times[config.amp].items()}
    return {
        "float32_over_amp": {
            name: statistics.median(off / own for off, own in zip(times["off"][name], values, strict=True))
            for name, values in times[config.amp].items()
        },
        "batch": config.batch,
        "step_s": step_s,
        "posts_per_s": {name: config.batch / value for name, value in step_s.items()},
        "fmit_over_bert_crf": step_s["fmit"] / step_s["bert-crf"],
        "fmit_over_bare": step_s["fmit"] / step_s["bare encoder"],
        "crf_share": crf_share(sides["fmit"], batches["fmit"], step_s["fmit"], device),
    }


def show(result: Mapping[str, Any]) -> None:
    click.echo(f"{result['device']}, {result['threads']} thread(s), {result['encoder']} encoder, amp {result['amp']}")
    click.echo(f"{'batch':>6}{'side':>14}{'ms a step':>12}{'posts/s':>10}")
    for row in result["rows"]:
        for name, value in row["step_s"].items():
            click.echo(f"{row['batch']:>6}{name:>14}{1000 * value:>12.1f}{row['posts_per_s'][name]:>10.1f}")
        gains = ", ".join(f"{name} {ratio:.2f}" for name, ratio in row["float32_over_amp"].items())
        click.echo(f"times as fast as float32: {gains}")
        ratios = f"FMIT over BERT-CRF {row['fmit_over_bert_crf']:.2f}, over the encoder {row['fmit_over_bare']:.2f}"
        click.echo(f"{ratios}; CRFs {100 * row['crf_share']:.1f}% of FMIT's step")


@click.command()
@click.option("--encoder", type=click.Choice(sorted(ENCODERS)), default="base", show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--amp", type=click.Choice(["off", "bf16", "fp16"]), default="off", show_default=True)
@click.option("--batch", "sizes", default="16", show_default=True, help="Comma-separated.")
@click.option("--width", default=512, show_default=True)
@click.option("--layers", default=3, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=None)
def main(
    encoder: str, device: str, amp: str, sizes: str, width: int, layers: int, rounds: int, out: Path | None
) -> None:
    """Measure, print and write."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, vocabulary = assets(Path(folder), encoder)
        for size in map(int, sizes.split(",")):
            values = {"width": width, "heads": 8, "layers": layers, "amp": amp, "batch": size}
            rows.append(measure(TrainConfig.checked(values, "bench"), path, vocabulary, device, rounds))
    result = {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "encoder": encoder,
        "amp": amp,
        "width": width,
        "layers": layers,
        "rows": rows,
    }
    show(result)
    target = out or Path(f"bench/results/train_step-{device}.json")
    atomic.write_json(target, result)


if __name__ == "__main__":
    main()
