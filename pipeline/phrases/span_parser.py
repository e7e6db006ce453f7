"""The embedded parser: the project's own weights over MiniLM, trained by `fmit embedded train-parser`.

A sentence's answer depends on its words alone: sentences run in passes of one fixed number of rows, padded to a length
that follows from the sentence, so grouping and order change no bit of it.

The best binary tree over a sentence, exactly: CKY over span gains, many sentences at once.

B sentences, W fences (W - 1 words). In a tree of binary splits every span scores its gain; a span whose gain is 0 is
there for the binary form only and is no constituent. The best tree of a span is its gain plus the best pair of parts.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cache import keys, weights
from cache.models import minilm_folder
from pipeline.phrases import parser, span_network
from pipeline.phrases.parser import LazyParser, Parsed
from pipeline.phrases.span_network import Size, SpanNet, encode
from schema.errors import WeightsError

VERSION = "1"  # raise it when answers change while the weights do not
N_ROWS = 4  # sentences of one pass: more is hardly faster on a CPU, and one post alone pays for all of them
MOST_WORDS, MOST_PIECES = 120, 254  # of one pass; a longer sentence is split
MOST_WORD_PIECES = 12  # pieces of one word that are read: URLs and the like have no structure below that


class EmbeddedParser:
    """See `pipeline.phrases.parser.Parser`."""

    def __init__(self, net: SpanNet, labels: Sequence[str], digest: str, pieces: span_network.Pieces) -> None:
        self._net, self._labels, self._pieces = net.eval(), list(labels), pieces
        self.identity = _identity(digest)

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[Parsed]:
        """One answer a sentence, in order; see `Parser.parse`."""
        pieces = [self._pieces(words, MOST_WORD_PIECES) for words in sentences]
        cuts = [
            parser.ranges(words, list(map(len, found)), MOST_WORDS, MOST_PIECES)
            for words, found in zip(sentences, pieces, strict=True)
        ]
        jobs = [(which, start, end) for which, found in enumerate(cuts) for start, end in found]
        answers = iter(
            self._spans(
                [sentences[which][start:end] for which, start, end in jobs],
                [pieces[which][start:end] for which, start, end in jobs],
            )
        )
        return [parser.joined(found, [next(answers) for _ in found]) for found in cuts]

    def _spans(
        self, sentences: list[Sequence[str]], pieces: list[list[tuple[int, ...]]]
    ) -> list[list[tuple[int, int, str]]]:
        buckets: dict[int, list[int]] = {}
        for index, found in enumerate(pieces):
            buckets.setdefault(bucket(sum(map(len, found)) + 2), []).append(index)
        answers: list[list[tuple[int, int, str]]] = [[] for _ in sentences]
        for n_pieces, members in sorted(buckets.items()):
            for first in range(0, len(members), N_ROWS):
                rows = members[first : first + N_ROWS]
                filled = rows + rows[:1] * (N_ROWS - len(rows))
                scores = self._scores([sentences[i] for i in filled], [pieces[i] for i in filled], n_pieces)
                lengths = [len(sentences[index]) for index in rows]
                for index, answer in zip(rows, constituents(scores, lengths, self._labels), strict=True):
                    answers[index] = answer
        return answers

    def _scores(
        self, sentences: list[Sequence[str]], pieces: list[list[tuple[int, ...]]], n_pieces: int
    ) -> NDArray[np.float32]:
        """Label scores [rows, W, W, K]; what is no span of words holds 0."""
        inputs = encode(sentences, pieces, n_pieces)
        n_fences = max(len(words) for words in sentences) + 1
        with torch.inference_mode():
            fences = self._net.fences(self._net.words(inputs.ids, inputs.pool, inputs.shapes))
            sentence, start, end = span_indices([n_pieces - 2] * len(sentences))
            logits = self._net.spans(fences, sentence, start, end)
            scores = torch.zeros(len(sentences), n_pieces - 1, n_pieces - 1, logits.shape[-1])
            scores[sentence, start, end] = logits - logits[:, :1]
        return scores[:, :n_fences, :n_fences].numpy()


def constituents(
    scores: NDArray[np.float32], lengths: list[int], labels: Sequence[str]
) -> list[list[tuple[int, int, str]]]:
    """Labelled spans of each sentence's best tree; scores [rows, W, W, K], label 0 is "no constituent" and scores 0."""
    best = scores[..., 1:].argmax(-1) + 1
    gains = np.maximum(scores[..., 1:].max(-1), 0.0)
    found = []
    for row, tree in enumerate(best_trees(gains, lengths)):
        nodes = [(start, end, labels[best[row, start, end]]) for start, end in tree if gains[row, start, end] > 0]
        found.append([(start, end, label) for start, end, chain in nodes for label in chain.split("+")])
    return found


def span_indices(lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sentence, start and end of every span of sentences with these numbers of words: three int64 vectors."""
    pairs = [np.triu_indices(length + 1, 1) for length in lengths]
    rows = [np.full(len(starts), row) for row, (starts, _) in enumerate(pairs)]
    columns = (rows, [starts for starts, _ in pairs], [ends for _, ends in pairs])
    sentence, start, end = (torch.from_numpy(np.concatenate(column)) for column in columns)
    return sentence, start, end


def bucket(n_pieces: int) -> int:
    """The padded length of a sentence with this many pieces, markers included: steps of 4, from 32 on of 16."""
    step = 4 if n_pieces <= 32 else 16
    return -(-n_pieces // step) * step


def save(path: Path, net: SpanNet, labels: Sequence[str], notes: dict[str, str]) -> None:
    """Publish the network's own weights as fp16 safetensors, the training-only part-of-speech head left out."""
    tensors = {
        name: value.detach().cpu().numpy().astype(np.float16)
        for name, value in net.state_dict().items()
        if not name.startswith("tags.")
    }
    size = dataclasses.replace(net.size, n_tags=0)
    meta = {
        "size": json.dumps(dataclasses.asdict(size)),
        "labels": json.dumps(list(labels)),
        "minilm": span_network.DIGEST,
    }
    weights.save_safetensors(path, tensors, {**meta, **notes})


def open_parser(path: Path) -> LazyParser:
    """The parser of a weights file; raises WeightsError where MiniLM is not installed."""
    minilm_folder()
    return LazyParser(_identity(keys.digest_file(path)), lambda: load(path))


def _identity(digest: str) -> dict[str, str]:
    return {"parser": "embedded", "weights": digest, "minilm": span_network.DIGEST, "version": VERSION}


def load(path: Path) -> EmbeddedParser:
    """The parser of a weights file that `save` wrote; raises WeightsError for another layout."""
    tensors, meta = weights.load_safetensors(path)
    try:
        size, labels = Size(**json.loads(meta["size"])), json.loads(meta["labels"])
        net = SpanNet(size)
        net.load_state_dict({name: torch.from_numpy(value.astype(np.float32)) for name, value in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError("no weights of the embedded parser", where=str(path), found=str(error)) from None
    folder = minilm_folder()
    net.minilm.load_package(folder / "model.safetensors")
    net.minilm.fold()
    return EmbeddedParser(net, labels, keys.digest_file(path), span_network.Pieces(folder / "tokenizer.json"))


Floats = NDArray[np.float32]


def best_trees(gains: Floats, n_words: list[int]) -> list[list[tuple[int, int]]]:
    """All spans [start, end) of each sentence's best tree, its 2n - 1 binary nodes in preorder.

    gains [B, W, W] float32, at [start, end], at least 0; what lies beyond a sentence's own words is not read.
    Ties go to the leftmost split.
    """
    splits = _splits(gains)
    return [_walk(splits[row], count) for row, count in enumerate(n_words)]


def _splits(gains: Floats) -> NDArray[np.int32]:
    """Where each span splits: [B, W, W] at [start, width], counted from its start."""
    n_rows, n_fences, _ = gains.shape
    most = n_fences - 1
    opens = np.zeros((n_rows, n_fences, n_fences), np.float32)  # best total of the span of width w that starts at i
    closes = np.zeros_like(opens)  # the same, by its end
    splits = np.zeros((n_rows, n_fences, n_fences), np.int32)
    starts = np.arange(most)
    opens[:, :most, 1] = closes[:, 1:, 1] = gains[:, starts, starts + 1]
    for width in range(2, most + 1):
        count = n_fences - width
        totals = opens[:, :count, 1:width] + closes[:, width:, width - 1 : 0 : -1]  # [B, count, width - 1]
        split = totals.argmax(-1)
        starts = np.arange(count)
        best = np.take_along_axis(totals, split[..., None], -1)[..., 0] + gains[:, starts, starts + width]
        opens[:, :count, width] = closes[:, width:, width] = best
        splits[:, :count, width] = split + 1
    return splits


def _walk(splits: NDArray[np.int32], n_words: int) -> list[tuple[int, int]]:
    spans, left = [], [(0, n_words)]
    while left:
        start, end = left.pop()
        spans.append((start, end))
        if end - start > 1:
            middle = start + int(splits[start, end - start])
            left += [(middle, end), (start, middle)]
    return spans
