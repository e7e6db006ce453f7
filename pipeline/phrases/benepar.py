"""Real benepar models (`benepar_en3`, `benepar_en3_large`, char-LSTM ones) behind our parser interface.

Words are given, sentences come in batches across posts. A pass has one fixed shape: sentences of one padded length,
a filler sentence of exactly that length among them, so that neighbours change no bit of an answer. Models that read
characters pack their input by its lengths, so they parse one sentence a pass.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from benepar import InputSentence

from cache.models import ModelRef, digest_of
from pipeline.phrases import parser
from pipeline.phrases.benepar_compat import load_chart_parser
from pipeline.phrases.parser import LazyParser, Parsed

VERSION = "1"
N_ROWS = 8  # sentences of a pass, the filler included
LONGEST = 512  # pieces of a pass: what BERT's positions and benepar's encoder hold
MOST_WORDS = 100  # of a pass: benepar's chart search takes memory and time with the cube
MOST_CHARACTERS = 100  # of a word that are read one by one
STEP = 16  # padded lengths, in pieces
ROOTS = frozenset({"", "TOP", "ROOT", "S1", "VROOT"})
FILLER = "a"  # one piece in any vocabulary

Nodes = list[tuple[int, int, str]]


class BeneparParser:
    """See `pipeline.phrases.parser.Parser`."""

    def __init__(self, model: Any, identity: dict[str, str]) -> None:
        self._model = model.cuda() if torch.cuda.is_available() else model
        self._labels = {index: label for label, index in model.config["label_vocab"].items()}
        self._by_characters = model.char_encoder is not None
        self.identity = identity

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[Parsed]:
        """One answer a sentence, in order; see `Parser.parse`."""
        most = max(4, self._longest * 15 // 16 - 2)  # words' pieces alone and in a sentence may differ a little
        cleaned = [self._cleaned(words, most) for words in sentences]
        cuts = [parser.ranges(words, costs, min(most, MOST_WORDS), most) for words, costs in cleaned]
        jobs = [words[start:end] for (words, _), found in zip(cleaned, cuts, strict=True) for start, end in found]
        answers = iter(self._nodes(jobs))
        return [parser.joined(found, [next(answers) for _ in found]) for found in cuts]

    @property
    def _longest(self) -> int:
        """Pieces (words, for models that read characters) of one pass at most, markers included."""
        tables = [LONGEST]
        if self._model.add_timing is not None:
            tables.append(self._model.add_timing.timing_table.shape[0])
        if not self._by_characters:
            tables.append(self._model.retokenizer.tokenizer.model_max_length - self._model.retokenizer.is_t5)
            tables.append(getattr(self._model.pretrained_model.config, "max_position_embeddings", LONGEST))
        return min(tables)

    def _cleaned(self, words: Sequence[str], most: int) -> tuple[list[str], list[int]]:
        """Words that the model can read, and what each costs. One that yields no piece becomes the unknown one."""
        if self._by_characters:
            return [word[:MOST_CHARACTERS] for word in words], [1] * len(words)
        tokenizer = self._model.retokenizer.tokenizer
        short = [word[: most // 4] for word in words]  # a character is four bytes, and so pieces, at most
        found = tokenizer(short, add_special_tokens=False)["input_ids"]
        readable = [word if ids else tokenizer.unk_token or FILLER for word, ids in zip(short, found, strict=True)]
        return readable, [max(len(ids), 1) for ids in found]

    def _nodes(self, jobs: Sequence[list[str]]) -> list[Nodes]:
        examples = [_example(words) for words in jobs]
        encoded = [self._model.encode(example) for example in examples]
        answers: list[Nodes] = [[] for _ in jobs]
        for filler, members in self._passes(encoded):
            rows = [examples[index] for index in members], [encoded[index] for index in members]
            fillers = [filler] * (N_ROWS - len(members)) if filler else []
            batch = rows[0] + fillers, rows[1] + [self._model.encode(one) for one in fillers]
            with warnings.catch_warnings():  # torch_struct, which searches the charts, is older than torch
                warnings.filterwarnings("ignore", ".*does not define `arg_constraints`")
                found = self._model._parse_encoded(*batch, return_compressed=True)  # as they are asked for
                for index, tree in zip(members, found, strict=False):  # what is left over answers the fillers
                    answers[index] = self._read(tree)
        return answers

    def _passes(self, encoded: Sequence[Any]) -> Iterator[tuple[InputSentence | None, list[int]]]:
        """Passes of sentences, by index, each with the filler sentence that gives it its padded length."""
        if self._by_characters:
            yield from ((None, [index]) for index in range(len(encoded)))
            return
        markers = len(self._model.encode(_example([FILLER]))["input_ids"]) - 1
        groups: dict[int, list[int]] = {}
        for index, one in enumerate(encoded):
            length = -(-len(one["input_ids"]) // STEP) * STEP
            groups.setdefault(length, []).append(index)
        for length, members in sorted(groups.items()):
            filler = _example([FILLER] * (min(length, self._longest) - markers))
            for first in range(0, len(members), N_ROWS - 1):
                yield filler, members[first : first + N_ROWS - 1]

    def _read(self, tree: Any) -> Nodes:
        return [
            (int(start), int(end), label)
            for start, end, index in zip(tree.starts, tree.ends, tree.labels, strict=True)
            for label in self._labels[int(index)].split("::")
            if label not in ROOTS
        ]


def _example(words: list[str]) -> InputSentence:
    return InputSentence(words=words, space_after=[True] * len(words))


def open_parser(name: str) -> LazyParser:
    """The parser of a model folder, of a checkpoint file, or of a name that benepar has downloaded."""
    path = ModelRef(name, "parser", "benepar").locate()
    identity = {"parser": "benepar", "weights": digest_of("benepar", path), "version": VERSION}
    return LazyParser(identity, lambda: BeneparParser(load_chart_parser(path), identity))
