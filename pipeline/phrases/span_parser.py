"""The embedded parser: trained weights over MiniLM (`fmit embedded train-parser`), and an exact chart search.

A tree depends on its sentence only: a pass has a fixed number of rows, padded to a length that follows from the
sentence. CKY finds the best binary tree over span gains, many sentences at once; a span with gain 0 exists for the
binary form only and is not a constituent.

B sentences, W fenceposts (W - 1 words).
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cache import keys, weights
from cache.models import minilm_folder
from pipeline.phrases import span_network
from pipeline.phrases.parser import LazyParser, Node, Parsed, parse_in_parts
from pipeline.phrases.span_network import Size, SpanNet, encode
from schema.errors import WeightsError

VERSION = "1"  # raise it when answers change while the weights do not
N_ROWS = 4  # sentences of a pass: more is hardly faster on a CPU, and a single post pays for all of them
MAX_WORDS, MAX_PIECES = 120, 254  # of a sentence; a longer one is parsed in parts
MAX_WORD_PIECES = 12  # pieces of a word that are read

Floats = NDArray[np.float32]


class EmbeddedParser:
    """See `pipeline.phrases.parser.Parser`."""

    def __init__(self, net: SpanNet, labels: Sequence[str], digest: str, pieces: span_network.Pieces) -> None:
        self._net, self._labels, self._pieces = net.eval(), list(labels), pieces
        self.identity = _identity(digest)

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[Parsed]:
        costs = [list(map(len, self._pieces(words, MAX_WORD_PIECES))) for words in sentences]
        return parse_in_parts(sentences, self._parse_parts, MAX_WORDS, costs, MAX_PIECES)

    def _parse_parts(self, parts: Sequence[Sequence[str]]) -> list[list[Node]]:
        pieces = [self._pieces(words, MAX_WORD_PIECES) for words in parts]
        buckets: dict[int, list[int]] = {}
        for index, ids_of_words in enumerate(pieces):
            buckets.setdefault(bucket(sum(map(len, ids_of_words)) + 2), []).append(index)
        answers: list[list[Node]] = [[] for _ in parts]
        for n_pieces, members in sorted(buckets.items()):
            for first in range(0, len(members), N_ROWS):
                rows = members[first : first + N_ROWS]
                batch = rows + rows[:1] * (N_ROWS - len(rows))
                scores = self._scores([parts[i] for i in batch], [pieces[i] for i in batch], n_pieces)
                trees = constituents(scores, [len(parts[index]) for index in rows], self._labels)
                for index, nodes in zip(rows, trees, strict=True):
                    answers[index] = nodes
        return answers

    def _scores(self, sentences: list[Sequence[str]], pieces: list[list[tuple[int, ...]]], n_pieces: int) -> Floats:
        """Label scores [rows, W, W, K] at [start, end]; 0 where that is no span of words."""
        inputs = encode(sentences, pieces, n_pieces)
        n_fences = max(map(len, sentences)) + 1
        with torch.inference_mode():
            fences = self._net.fences(self._net.words(*inputs))
            spans = span_indices([n_pieces - 2] * len(sentences))
            logits = self._net.spans(fences, *spans)
            scores = torch.zeros(len(sentences), n_pieces - 1, n_pieces - 1, logits.shape[-1])
            scores[spans] = logits - logits[:, :1]
        return scores[:, :n_fences, :n_fences].numpy()


def constituents(scores: Floats, n_words: list[int], labels: Sequence[str]) -> list[list[Node]]:
    """Labeled spans of each sentence's best tree; scores [rows, W, W, K], label 0 is "no constituent" and scores 0."""
    best = scores[..., 1:].argmax(-1) + 1
    gains = np.maximum(scores[..., 1:].max(-1), 0.0)
    trees = []
    for row, spans in enumerate(best_trees(gains, n_words)):
        nodes = [(start, end, labels[best[row, start, end]]) for start, end in spans if gains[row, start, end] > 0]
        trees.append([(start, end, label) for start, end, chain in nodes for label in chain.split("+")])
    return trees


def best_trees(gains: Floats, n_words: list[int]) -> list[list[tuple[int, int]]]:
    """All spans [start, end) of each sentence's best tree, its 2n - 1 binary nodes in preorder.

    gains [B, W, W] at [start, end], at least 0; those beyond a sentence's own words are not read. A tie goes to the
    leftmost split.
    """
    n_rows, n_fences, _ = gains.shape
    by_start = np.zeros((n_rows, n_fences, n_fences), np.float32)  # best total of a span, at [start, width]
    by_end = np.zeros_like(by_start)  # the same at [end, width]
    splits = np.zeros((n_rows, n_fences, n_fences), np.int32)  # of the span at [start, width], counted from its start
    starts = np.arange(n_fences - 1)
    by_start[:, :-1, 1] = by_end[:, 1:, 1] = gains[:, starts, starts + 1]
    for width in range(2, n_fences):
        count = n_fences - width
        totals = by_start[:, :count, 1:width] + by_end[:, width:, width - 1 : 0 : -1]  # [B, count, width - 1]
        split = totals.argmax(-1)
        starts = np.arange(count)
        best = np.take_along_axis(totals, split[..., None], -1)[..., 0] + gains[:, starts, starts + width]
        by_start[:, :count, width] = by_end[:, width:, width] = best
        splits[:, :count, width] = split + 1
    trees = []
    for row, count in enumerate(n_words):
        spans, pending = [], [(0, count)]
        while pending:
            start, end = pending.pop()
            spans.append((start, end))
            if end - start > 1:
                middle = start + int(splits[row, start, end - start])
                pending += [(middle, end), (start, middle)]
        trees.append(spans)
    return trees


def span_indices(lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sentence, start and end of every span of sentences with these numbers of words: three int64 vectors."""
    pairs = [np.triu_indices(length + 1, 1) for length in lengths]
    rows = [np.full(len(starts), row) for row, (starts, _) in enumerate(pairs)]
    starts, ends = ([pair[side] for pair in pairs] for side in (0, 1))
    sentence, start, end = (torch.from_numpy(np.concatenate(parts)) for parts in (rows, starts, ends))
    return sentence, start, end


def bucket(n_pieces: int) -> int:
    """The padded length for this many pieces, special tokens included: a multiple of 4, above 32 of 16."""
    step = 4 if n_pieces <= 32 else 16
    return -(-n_pieces // step) * step


def save(path: Path, net: SpanNet, labels: Sequence[str], notes: dict[str, str]) -> None:
    """Publish the trained weights as fp16 safetensors, without the part-of-speech head, which only training needs."""
    state = {name: value for name, value in net.state_dict().items() if not name.startswith("tags.")}
    tensors = {name: value.detach().cpu().numpy().astype(np.float16) for name, value in state.items()}
    size = json.dumps({**dataclasses.asdict(net.size), "n_tags": 0})
    meta = {"size": size, "labels": json.dumps(list(labels)), "minilm": span_network.DIGEST}
    weights.save_safetensors(path, tensors, {**meta, **notes})


def open_parser(path: Path) -> LazyParser:
    """The parser of a weights file; raises WeightsError where MiniLM is not installed."""
    minilm_folder()
    return LazyParser(_identity(keys.digest_file(path)), lambda: load(path))


def _identity(digest: str) -> dict[str, str]:
    return {"parser": "embedded", "weights": digest, "minilm": span_network.DIGEST, "version": VERSION}


def load(path: Path) -> EmbeddedParser:
    """The parser of a weights file that `save` wrote; raises WeightsError for a different layout."""
    tensors, meta = weights.load_safetensors(path)
    try:
        size, labels = Size(**json.loads(meta["size"])), json.loads(meta["labels"])
        net = SpanNet(size)
        net.load_state_dict({name: torch.from_numpy(value.astype(np.float32)) for name, value in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError("not weights of the embedded parser", where=str(path), found=str(error)) from None
    folder = minilm_folder()
    net.minilm.load_package(folder / "model.safetensors")
    net.minilm.fold()
    return EmbeddedParser(net, labels, keys.digest_file(path), span_network.Pieces(folder / "tokenizer.json"))
