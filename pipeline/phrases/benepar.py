"""Released benepar models (`benepar_en3`, `benepar_en3_large`, and char-LSTM ones) behind the parser interface.

A pass has a fixed shape, with a filler sentence of exactly the padded length, so that a tree depends on its sentence
only. Models that read characters parse one sentence a pass, because they pack their input by its lengths.

benepar 0.2.0 relies on two things that transformers 5 removed: a method of fast tokenizers (`compatible_tokenizers`),
and tensors that its state dicts still contain (OBSOLETE), which would make a strict load fail.
"""

import types
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers
from benepar import InputSentence, nkutil, parse_chart, retokenization

from cache.models import ModelRef, digest_of
from pipeline.phrases.parser import ROOTS, LazyParser, Node, Parsed, parse_in_parts
from schema.errors import WeightsError
from vision.torch_files import load_tensors

VERSION = "1"
N_ROWS = 8  # sentences of a pass, the filler included
MAX_PIECES = 512  # of a pass: the positions of BERT and of benepar's encoder
MAX_WORDS = 100  # of a pass: time and memory of benepar's chart search grow with the cube
MAX_CHARACTERS = 100  # of a word for models that read characters
LENGTH_STEP = 16  # pieces: padded lengths are multiples of it
FILLER = "a"  # one piece in any vocabulary
OBSOLETE = (".position_ids", ".EncDecAttention.relative_attention_bias.weight")


class BeneparParser:
    """See `pipeline.phrases.parser.Parser`."""

    def __init__(self, model: Any, identity: dict[str, str]) -> None:
        self._model = model.cuda() if torch.cuda.is_available() else model
        self._labels = {index: label for label, index in model.config["label_vocab"].items()}
        self._reads_characters = model.char_encoder is not None
        self.identity = identity
        limits = [MAX_PIECES]
        if model.add_timing is not None:
            limits.append(model.add_timing.timing_table.shape[0])
        if not self._reads_characters:
            limits.append(model.retokenizer.tokenizer.model_max_length - model.retokenizer.is_t5)
            limits.append(getattr(model.pretrained_model.config, "max_position_embeddings", MAX_PIECES))
        self._max_pieces = min(limits)  # of a pass, special tokens included; words, if it reads characters

    def parse(self, sentences: Sequence[Sequence[str]]) -> list[Parsed]:
        limit = max(4, self._max_pieces * 15 // 16 - 2)  # words may have a few more pieces in a sentence
        readable = [self._readable(words, limit) for words in sentences]
        words, costs = [words for words, _ in readable], [costs for _, costs in readable]
        return parse_in_parts(words, self._parse_parts, min(limit, MAX_WORDS), costs, limit)

    def _readable(self, words: Sequence[str], limit: int) -> tuple[list[str], list[int]]:
        """Words as the model can read them, and the pieces of each. A word without a piece becomes the unknown one."""
        if self._reads_characters:
            return [word[:MAX_CHARACTERS] for word in words], [1] * len(words)
        tokenizer = self._model.retokenizer.tokenizer
        short = [word[: limit // 4] for word in words]  # a character has at most four bytes, so four pieces
        pieces = tokenizer(short, add_special_tokens=False)["input_ids"]
        readable = [word if ids else tokenizer.unk_token or FILLER for word, ids in zip(short, pieces, strict=True)]
        return readable, [max(len(ids), 1) for ids in pieces]

    def _parse_parts(self, parts: Sequence[Sequence[str]]) -> list[list[Node]]:
        examples = [_example(words) for words in parts]
        encoded = [self._model.encode(example) for example in examples]
        answers: list[list[Node]] = [[] for _ in parts]
        for filler, members in self._passes(encoded):
            fillers = [filler] * (N_ROWS - len(members)) if filler else []
            batch = (
                [*(examples[index] for index in members), *fillers],
                [*(encoded[index] for index in members), *(self._model.encode(sentence) for sentence in fillers)],
            )
            with warnings.catch_warnings():  # torch_struct, which searches the charts, is older than torch
                warnings.filterwarnings("ignore", ".*does not define `arg_constraints`")
                trees = self._model._parse_encoded(*batch, return_compressed=True)  # a generator
                for index, tree in zip(members, trees, strict=False):  # without those of the fillers
                    answers[index] = [
                        (int(start), int(end), label)
                        for start, end, label_id in zip(tree.starts, tree.ends, tree.labels, strict=True)
                        for label in self._labels[int(label_id)].split("::")
                        if label not in ROOTS
                    ]
        return answers

    def _passes(self, encoded: Sequence[Any]) -> Iterator[tuple[InputSentence | None, list[int]]]:
        """Indices of the sentences of each pass, and the filler sentence that has their padded length."""
        if self._reads_characters:
            yield from ((None, [index]) for index in range(len(encoded)))
            return
        n_special = len(self._model.encode(_example([FILLER]))["input_ids"]) - 1
        groups: dict[int, list[int]] = {}
        for index, inputs in enumerate(encoded):
            length = -(-len(inputs["input_ids"]) // LENGTH_STEP) * LENGTH_STEP
            groups.setdefault(length, []).append(index)
        for length, members in sorted(groups.items()):
            filler = _example([FILLER] * (min(length, self._max_pieces) - n_special))
            for first in range(0, len(members), N_ROWS - 1):
                yield filler, members[first : first + N_ROWS - 1]


def _example(words: Sequence[str]) -> InputSentence:
    return InputSentence(words=list(words), space_after=[True] * len(words))


def open_parser(name: str) -> LazyParser:
    """The parser of a model folder, of a checkpoint file, or of a name that benepar has downloaded."""
    path = ModelRef(name, "parser", "benepar").locate()
    identity = {"parser": "benepar", "weights": digest_of("benepar", path), "version": VERSION}
    return LazyParser(identity, lambda: BeneparParser(load_chart_parser(path), identity))


def load_chart_parser(path: Path) -> parse_chart.ChartParser:
    """A benepar model from its release folder (config.json, benepar_model.bin, tokenizer) or its one-file checkpoint.

    Pickles are read with `weights_only`. Raises WeightsError for a different layout.
    """
    try:
        if path.is_dir():
            config = transformers.AutoConfig.from_pretrained(path).benepar | {"pretrained_model_path": str(path)}
            state = load_tensors(path / "benepar_model.bin")
        else:
            data = load_tensors(path)
            config, state = data["config"], data["state_dict"]
        hparams = nkutil.HParams(**{"force_root_constituent": True, **config["hparams"]})  # absent from older models
        with compatible_tokenizers():
            parser = parse_chart.ChartParser(**{**config, "hparams": hparams})
        expected = parser.state_dict()
        state = {name: value for name, value in state.items() if name in expected or not name.endswith(OBSOLETE)}
        parser.load_state_dict(state)
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError, WeightsError) as error:
        found, todo = str(error), ""
        if isinstance(error, WeightsError):
            found, todo = f"{error.what}: {error.found}" if error.found else error.what, error.todo
        raise WeightsError("not a benepar model that can be loaded", where=str(path), found=found, todo=todo) from None
    return parser.eval()


def compatible_tokenizers() -> mock._patch:
    """A context in which benepar's retokenizer makes tokenizers `with_special_tokens`."""

    def from_pretrained(*args: Any, **kwargs: Any) -> Any:
        return with_special_tokens(transformers.AutoTokenizer.from_pretrained(*args, **kwargs))

    library = types.SimpleNamespace(AutoTokenizer=types.SimpleNamespace(from_pretrained=from_pretrained))
    return mock.patch.object(retokenization, "transformers", library)


def with_special_tokens(tokenizer: Any) -> Any:
    """The tokenizer with `build_inputs_with_special_tokens(ids)`: the ids between its own prefix and suffix."""
    if hasattr(tokenizer, "build_inputs_with_special_tokens"):
        return tokenizer
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    start = next(at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
    prefix, suffix = whole[:start], whole[start + len(bare) :]
    tokenizer.build_inputs_with_special_tokens = lambda ids: prefix + list(ids) + suffix
    return tokenizer
