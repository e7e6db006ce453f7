"""Released benepar models (`benepar_en3`, `benepar_en3_large`, and char-LSTM ones) behind the parser interface.

A pass has a fixed shape: sentences of one padded length, among them a filler sentence of exactly that length, so the
others change no bit of an answer. Models that read characters pack their input by its lengths, so they parse one
sentence a pass.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from benepar import InputSentence

from cache.models import ModelRef, digest_of
from pipeline.phrases.benepar_compat import load_chart_parser
from pipeline.phrases.parser import ROOTS, LazyParser, Node, Parsed, parse_in_parts

VERSION = "1"
N_ROWS = 8  # sentences of a pass, the filler included
MAX_PIECES = 512  # of a pass: the positions of BERT and of benepar's encoder
MAX_WORDS = 100  # of a pass: time and memory of benepar's chart search grow with the cube
MAX_CHARACTERS = 100  # of a word for models that read characters
LENGTH_STEP = 16  # pieces: padded lengths are multiples of it
FILLER = "a"  # one piece in any vocabulary


class BeneparParser:
    """See `pipeline.phrases.parser.Parser`."""

    def __init__(self, model: Any, identity: dict[str, str]) -> None:
        self._model = model.cuda() if torch.cuda.is_available() else model
        self._labels = {index: label for label, index in model.config["label_vocab"].items()}
        self._reads_characters = model.char_encoder is not None
        self._max_pieces = self._find_max_pieces()
        self.identity = identity

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[Parsed]:
        """See `Parser.parse`."""
        limit = max(4, self._max_pieces * 15 // 16 - 2)  # words may have a few more pieces in a sentence
        readable = [self._readable(words, limit) for words in sentences]
        words, costs = [words for words, _ in readable], [costs for _, costs in readable]
        return parse_in_parts(words, self._parse_parts, min(limit, MAX_WORDS), costs, limit)

    def _find_max_pieces(self) -> int:
        """Pieces (words, for models that read characters) of a pass at most, special tokens included."""
        limits = [MAX_PIECES]
        if self._model.add_timing is not None:
            limits.append(self._model.add_timing.timing_table.shape[0])
        if not self._reads_characters:
            limits.append(self._model.retokenizer.tokenizer.model_max_length - self._model.retokenizer.is_t5)
            limits.append(getattr(self._model.pretrained_model.config, "max_position_embeddings", MAX_PIECES))
        return min(limits)

    def _readable(self, words: Sequence[str], limit: int) -> tuple[list[str], list[int]]:
        """Words as the model can read them, and the pieces of each. A word without a piece becomes the unknown one."""
        if self._reads_characters:
            return [word[:MAX_CHARACTERS] for word in words], [1] * len(words)
        tokenizer = self._model.retokenizer.tokenizer
        short = [word[: limit // 4] for word in words]  # a character has at most four bytes, so four pieces
        found = tokenizer(short, add_special_tokens=False)["input_ids"]
        readable = [word if ids else tokenizer.unk_token or FILLER for word, ids in zip(short, found, strict=True)]
        return readable, [max(len(ids), 1) for ids in found]

    def _parse_parts(self, parts: Sequence[Sequence[str]]) -> list[list[Node]]:
        examples = [_example(words) for words in parts]
        encoded = [self._model.encode(example) for example in examples]
        answers: list[list[Node]] = [[] for _ in parts]
        for filler, members in self._passes(encoded):
            fillers = [filler] * (N_ROWS - len(members)) if filler else []
            batch = (
                [*(examples[index] for index in members), *fillers],
                [*(encoded[index] for index in members), *(self._model.encode(one) for one in fillers)],
            )
            with warnings.catch_warnings():  # torch_struct, which searches the charts, is older than torch
                warnings.filterwarnings("ignore", ".*does not define `arg_constraints`")
                trees = self._model._parse_encoded(*batch, return_compressed=True)  # a generator
                for index, tree in zip(members, trees, strict=False):  # without those of the fillers
                    answers[index] = self._nodes(tree)
        return answers

    def _passes(self, encoded: Sequence[Any]) -> Iterator[tuple[InputSentence | None, list[int]]]:
        """Indices of the sentences of each pass, and the filler sentence that has their padded length."""
        if self._reads_characters:
            yield from ((None, [index]) for index in range(len(encoded)))
            return
        n_special = len(self._model.encode(_example([FILLER]))["input_ids"]) - 1
        groups: dict[int, list[int]] = {}
        for index, one in enumerate(encoded):
            length = -(-len(one["input_ids"]) // LENGTH_STEP) * LENGTH_STEP
            groups.setdefault(length, []).append(index)
        for length, members in sorted(groups.items()):
            filler = _example([FILLER] * (min(length, self._max_pieces) - n_special))
            for first in range(0, len(members), N_ROWS - 1):
                yield filler, members[first : first + N_ROWS - 1]

    def _nodes(self, tree: Any) -> list[Node]:
        return [
            (int(start), int(end), label)
            for start, end, index in zip(tree.starts, tree.ends, tree.labels, strict=True)
            for label in self._labels[int(index)].split("::")
            if label not in ROOTS
        ]


def _example(words: Sequence[str]) -> InputSentence:
    return InputSentence(words=list(words), space_after=[True] * len(words))


def open_parser(name: str) -> LazyParser:
    """The parser of a model folder, of a checkpoint file, or of a name that benepar has downloaded."""
    path = ModelRef(name, "parser", "benepar").locate()
    identity = {"parser": "benepar", "weights": digest_of("benepar", path), "version": VERSION}
    return LazyParser(identity, lambda: BeneparParser(load_chart_parser(path), identity))
