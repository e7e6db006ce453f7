"""Training and scoring of the embedded parser: `fmit embedded train-parser`, `fmit embedded score-parser`.

MiniLM stays frozen; low-rank updates, the mixture of its layers, the word encoder and the span labels are trained
together by a cross-entropy over all spans of a sentence, with part-of-speech tagging on the same word vectors as a
second task. The published weights are an exponential average over steps; a card beside them gives their score.
"""

import copy
import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cache import atomic, keys
from cache.models import minilm_folder
from pipeline.phrases import span_network, span_parser
from pipeline.phrases.parser import ROOTS, Node, Parser, category
from pipeline.phrases.span_network import Size, SpanNet, encode
from schema.errors import DataError
from schema.scores import Counts
from synthetic import checkpoint

BLOCKS = ((240, 320), (900, 980), (1700, 1780), (2520, 2600), (3300, 3380))  # held-out trees of the GUM file, by index
MIN_LABEL = 5  # labels on fewer trees are trained as NP or X
MAX_WORDS = 110  # longer training sentences are left out: the number of spans grows with the square
WARM_UP = 200  # steps
CARD = Path(__file__).with_name("parser_card.md")  # a template for str.format
TOKEN = re.compile(r"[()]|[^\s()]+")
BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}", "``": '"', "''": '"'}
TRACE = "-NONE-"  # tag of an empty element, which is not a word
CHILD = ""  # stands for a node among the tokens of a node


@dataclass(frozen=True, slots=True)
class Tree:
    """A sentence: words, their part-of-speech tags, and constituents (start, end, label), inner ones first."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    spans: tuple[Node, ...]

    def labelled(self, label: str) -> set[tuple[int, int]]:
        return {(start, end) for start, end, name in self.spans if name == label}

    def chains(self) -> dict[tuple[int, int], str]:
        """One label per span: the labels of nodes over the same words are joined, the outermost first: `S+VP`."""
        chains: dict[tuple[int, int], str] = {}
        for start, end, label in self.spans:
            chains[start, end] = f"{label}+{chains[start, end]}" if (start, end) in chains else label
        return chains


def read_trees(path: Path) -> list[Tree]:
    """The non-empty trees of a file in Penn Treebank brackets; raises DataError with file:line for bad brackets."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8 text", where=str(path), todo="save it as UTF-8") from error

    def line(offset: int) -> str:
        return f"{path}:{text.count(chr(10), 0, offset) + 1}"

    trees: list[Tree] = []
    open_nodes: list[tuple[int, list[str]]] = []  # the first word of a node, and the tokens directly in it
    words: list[str] = []
    tags: list[str] = []
    spans: list[Node] = []
    first = 0
    for match in TOKEN.finditer(text):
        token, problem = match.group(), ""
        if token == "(":
            if open_nodes:
                open_nodes[-1][1].append(CHILD)
            else:
                first, words, tags, spans = match.start(), [], [], []
            open_nodes.append((len(words), []))
        elif not open_nodes:
            problem = "a tree begins with ("
        elif token != ")":
            open_nodes[-1][1].append(token)
        else:
            start, tokens = open_nodes.pop()
            problem = _close(start, tokens, not open_nodes, words, tags, spans)
            if not open_nodes and words:
                trees.append(Tree(tuple(words), tuple(tags), tuple(spans)))
        if problem:
            raise DataError(problem, where=line(match.start()), found=repr(token))
    if open_nodes:
        raise DataError("the tree that begins here is not closed", where=line(first), todo="add the missing bracket")
    return trees


def _close(start: int, tokens: list[str], is_root: bool, words: list[str], tags: list[str], spans: list[Node]) -> str:
    """Add a node whose bracket closes to the tree; returns what is wrong with it, or ""."""
    if CHILD in tokens:
        own = [token for token in tokens if token != CHILD]
        if len(own) > 1:
            return "a node contains both words and nodes"
        label = category(own[0]) if own else ""
        if label not in ROOTS and start < len(words):
            spans.append((start, len(words), label))
    elif len(tokens) == 2:
        if tokens[0] != TRACE:
            tags.append(category(tokens[0]))
            words.append(BRACKETS.get(tokens[1], tokens[1]))
    elif len(tokens) > 2 or not is_root:  # at the root, an empty tree
        return "a leaf needs a tag and a word"
    return ""


@dataclass(frozen=True)
class Score(Counts):
    """Counts of noun-phrase spans over all sentences."""

    n_sentences: int = 0

    def __str__(self) -> str:
        rates = f"F1 {self.f1:.3f} (precision {self.precision:.3f}, recall {self.recall:.3f}"
        return f"{rates}; {self.n_sentences:,} sentences, {self.n_gold:,} noun phrases)."


def score(trees: Sequence[Tree] | Path, parser: Parser) -> Score:
    """Compare a parser's noun phrases with those of gold trees, as sets of spans; it parses the trees' words."""
    gold = read_trees(trees) if isinstance(trees, Path) else trees
    if not gold:
        raise DataError("no trees to score", where=str(trees) if isinstance(trees, Path) else "")
    total = Counts()
    for tree, answer in zip(gold, parser.parse([tree.words for tree in gold]), strict=True):
        expected, predicted = tree.labelled("NP"), {(start, end) for start, end, label in answer.spans if label == "NP"}
        total += Counts(len(expected), len(predicted), len(expected & predicted))
    return Score(total.n_gold, total.n_predicted, total.n_correct, len(gold))


@dataclass(frozen=True)
class Recipe:
    """How the published weights were trained; an interrupted training resumes only with the same recipe."""

    size: Size = field(default_factory=Size)
    epochs: int = 12
    batch: int = 32  # sentences
    rate: float = 1e-3  # peak, after WARM_UP; then a cosine to 0
    minilm_rate: float = 5e-4
    dropout_prob: float = 0.2
    minilm_dropout_prob: float = 0.1
    input_dropout_prob: float = 0.3
    lower_prob: float = 0.1  # of lowercasing a sentence, because case is unreliable in posts
    tag_weight: float = 0.3
    average: float = 0.998
    seed: int = 0


class Epoch(NamedTuple):
    """The result of an epoch; `held_out` is the score of the averaged weights on the held-out blocks."""

    epoch: int
    loss: float
    held_out: Score


def held_out(trees: Sequence[Tree]) -> tuple[list[Tree], list[Tree]]:
    """Trees to train on and contiguous blocks to score on: BLOCKS, or every tenth block of 20 in another file."""
    inside = {index for start, end in BLOCKS for index in range(start, end)}
    if len(trees) <= max(inside):
        inside = {index for index in range(len(trees)) if index // 20 % 10 == 5}
    rest = [tree for index, tree in enumerate(trees) if index not in inside]
    return rest, [tree for index, tree in enumerate(trees) if index in inside]


def train(path: Path, out: Path, *, recipe: Recipe | None = None, resume: Path) -> Iterator[Epoch]:
    """Train on a treebank; yields each epoch, and publishes the weights and their card after the last one.

    An interrupted training resumes from the folder `resume` and ends in the same weights: batches and dropout depend
    on the seed and the epoch only.
    """
    recipe = recipe or Recipe()
    training, measured = held_out(read_trees(path))
    source = {"treebank": keys.digest_file(path), "recipe": json.dumps(asdict(recipe), sort_keys=True)}
    state = resume / f"{keys.key('parser-training', **source, minilm=span_network.DIGEST)}.safetensors"
    trainer = _Trainer(recipe, [tree for tree in training if len(tree.words) <= MAX_WORDS])
    modules = {"net": trainer.net, "average": trainer.average}
    progress = checkpoint.restore(state, modules, trainer.optimizer)
    trainer.step = int(progress.get("step", 0))
    for epoch in range(int(progress.get("epoch", 0)) + 1, recipe.epochs + 1):
        loss = trainer.epoch(epoch)
        held_out_score = score(measured, trainer.parser()) if measured else Score()
        if epoch < recipe.epochs:
            checkpoint.save(state, modules, trainer.optimizer, {"epoch": str(epoch), "step": str(trainer.step)})
        else:
            span_parser.save(out, trainer.average, trainer.labels, source)
            figure = score(measured, span_parser.load(out)) if measured else None
            atomic.write_text(out.with_suffix(".md"), card(out, source, len(trainer.trees), figure))
            state.unlink(missing_ok=True)
        yield Epoch(epoch, loss, held_out_score)


def card(path: Path, source: Mapping[str, str], n_trees: int, figure: Score | None) -> str:
    """The card of the weights at `path`; `source` names treebank and recipe, `figure` is the score of these weights."""
    digests = {"digest": keys.digest_file(path), "minilm": span_network.DIGEST}
    values = {"name": path.stem, "size": path.stat().st_size / 1e6, "n_trees": n_trees, **digests, **source}
    text = CARD.read_text(encoding="utf-8")
    return text.format(figure=figure or "not measured, because no trees were held out.", **values)


class _Trainer:
    """Network, optimizer and averaged weights of one training."""

    def __init__(self, recipe: Recipe, trees: Sequence[Tree]) -> None:
        self.recipe, self.trees, self.step = recipe, trees, 0
        counts = Counter(label for tree in trees for label in tree.chains().values())
        self.labels = ["", *sorted({"NP", "X"} | {label for label, n in counts.items() if n >= MIN_LABEL})]
        self._tags = sorted({tag for tree in trees for tag in tree.tags})
        size = Size(**{**asdict(recipe.size), "n_labels": len(self.labels), "n_tags": len(self._tags)})
        torch.manual_seed(recipe.seed)
        self.net = SpanNet(size, recipe.dropout_prob, recipe.minilm_dropout_prob, recipe.input_dropout_prob)
        folder = minilm_folder()
        self.net.minilm.load_package(folder / "model.safetensors")
        self._pieces = span_network.Pieces(folder / "tokenizer.json")
        self.average = copy.deepcopy(self.net).eval()
        others = [value for name, value in self.net.named_parameters() if not name.startswith("minilm.")]
        updates = {"params": list(self.net.minilm.parameters()), "peak": recipe.minilm_rate}
        groups = [{"params": others, "peak": recipe.rate}, updates]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.01)
        self._n_steps = recipe.epochs * -(-len(trees) // recipe.batch)

    def epoch(self, number: int) -> float:
        """Train for one epoch; returns the mean loss."""
        seed = self.recipe.seed * 1_000 + number
        torch.manual_seed(seed)
        rng = random.Random(seed)
        self.net.train()
        return float(np.mean([self._update(batch, rng) for batch in _batches(self.trees, self.recipe.batch, rng)]))

    def parser(self) -> span_parser.EmbeddedParser:
        """The parser of the averaged weights."""
        net = copy.deepcopy(self.average)
        net.minilm.fold()
        return span_parser.EmbeddedParser(net, self.labels, "in training", self._pieces)

    def _update(self, batch: Sequence[Tree], rng: random.Random) -> float:
        self.step += 1
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / self._n_steps)))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * min(1.0, self.step / WARM_UP) * cosine
        loss = self._loss(batch, rng)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        keep = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for average, new in zip(self.average.parameters(), self.net.parameters(), strict=True):
                average.lerp_(new, 1 - keep)
        return float(loss.detach())

    def _loss(self, batch: Sequence[Tree], rng: random.Random) -> Tensor:
        lower = [rng.random() < self.recipe.lower_prob for _ in batch]
        texts = [[word.lower() if low else word for word in tree.words] for low, tree in zip(lower, batch, strict=True)]
        pieces = [self._pieces(words, span_parser.MAX_WORD_PIECES) for words in texts]
        inputs = encode(texts, pieces, max(sum(map(len, ids)) for ids in pieces) + 2)
        vectors = self.net.words(*inputs)
        sentence, start, end = span_parser.span_indices([len(tree.words) for tree in batch])
        logits = self.net.spans(self.net.fences(vectors), sentence, start, end)
        gold = torch.zeros(len(batch), vectors.shape[1], vectors.shape[1], dtype=torch.int64)
        tags = torch.full(vectors.shape[:2], -100)
        for row, tree in enumerate(batch):
            for (first, last), label in tree.chains().items():
                name = label if label in self.labels else "NP" if "NP" in label.split("+") else "X"
                gold[row, first, last] = self.labels.index(name)
            tags[row, 1 : len(tree.words) + 1] = torch.tensor([self._tags.index(tag) for tag in tree.tags])
        spans = F.cross_entropy(logits, gold[sentence, start, end], reduction="sum") / len(batch) / 5
        assert self.net.tags is not None
        return spans + self.recipe.tag_weight * F.cross_entropy(self.net.tags(vectors).flatten(0, 1), tags.flatten())


def _batches(trees: Sequence[Tree], n: int, rng: random.Random) -> list[list[Tree]]:
    """Batches of trees of similar length: shuffled, sorted within stretches of 20 batches, shuffled again."""
    shuffled = rng.sample(list(trees), len(trees))
    batches = []
    for start in range(0, len(shuffled), 20 * n):
        stretch = sorted(shuffled[start : start + 20 * n], key=lambda tree: len(tree.words))
        batches += [stretch[at : at + n] for at in range(0, len(stretch), n)]
    return rng.sample(batches, len(batches))
