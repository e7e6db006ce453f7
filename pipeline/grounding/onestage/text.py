"""The two text encoders of the one-stage toolkit (Yang et al., 2019), and the reader of each.

Q queries, W numbers a query, E width of a word, H width of one direction.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as hf  # its classes are imported when they are first used, which takes seconds
from torch import Tensor, nn

from schema.errors import WeightsError

N_WORDS = 20  # words of the LSTM, or pieces of BERT with [CLS] and [SEP], that a query has at most
N_LAST = 4  # of BERT's layers, whose [CLS] vectors are averaged
PAD, UNKNOWN, END = "<pad>", "<unk>", "<eos>"
_WORDS = re.compile(r"(\W+)")  # the text between words counts as a word, unless it is a single space


class BertText(nn.Module):
    """The mean of the last four layers' [CLS] vectors; the toolkit never trains its BERT.

    Eager attention: the fused kernels compute other bits where no row of a batch is padded.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        config = hf.BertConfig(**sizes)
        config._attn_implementation = "eager"
        self.bert = hf.BertModel(config, add_pooling_layer=False)
        self.dim: int = config.hidden_size

    def forward(self, words: Tensor) -> Tensor:
        """int64 [Q, W], 0 pads -> [Q, E]."""
        states = self.bert(input_ids=words, attention_mask=(words > 0).long(), output_hidden_states=True).hidden_states
        return torch.stack([state[:, 0] for state in states[-N_LAST:]]).mean(0)


class LstmText(nn.Module):
    """Both directions of an LSTM at a query's last word.

    There the backward direction has read that word only, so it is one step of a cell. Padding after the last word is
    not read, so a row does not depend on the lengths of the others.
    """

    def __init__(self, n_words: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_words, embedding)
        self.mlp = nn.Sequential(nn.Linear(embedding, hidden), nn.ReLU())
        self.ahead = nn.LSTM(hidden, hidden, batch_first=True)
        self.back = nn.LSTMCell(hidden, hidden)
        self.dim = 2 * hidden

    def forward(self, words: Tensor) -> Tensor:
        """int64 [Q, W], 0 pads -> [Q, 2H]."""
        rows, last = torch.arange(len(words), device=words.device), (words > 0).sum(1).clamp(min=1) - 1
        x = self.mlp(self.embedding(words))
        return torch.cat([self.ahead(x)[0][rows, last], self.back(x[rows, last])[0]], dim=1)


class Pieces:
    """Texts as BERT's pieces."""

    def __init__(self, vocabulary: Path) -> None:
        self._tokenizer = hf.BertTokenizer.from_pretrained(vocabulary.parent, do_lower_case=True, local_files_only=True)

    def encode(self, text: str) -> list[int]:
        """N_WORDS ids, padded with 0."""
        ids = self._tokenizer(text.lower(), truncation=True, max_length=N_WORDS)["input_ids"]
        return ids + [0] * (N_WORDS - len(ids))

    def is_cut(self, text: str) -> bool:
        return len(self._tokenizer(text.lower(), verbose=False)["input_ids"]) > N_WORDS


class Corpus:
    """Texts as words of the list that the LSTM was trained with; WeightsError for a list without its special words."""

    def __init__(self, words: Sequence[str]) -> None:
        if not words or words[0] != PAD or UNKNOWN not in words or END not in words:
            found = f"{len(words)} words, the first {list(words[:3])}"
            raise WeightsError(f"a word list must start with {PAD} and contain {UNKNOWN} and {END}", found=found)
        self._ids = {word: index for index, word in enumerate(words)}

    def encode(self, text: str) -> list[int]:
        """N_WORDS ids, padded with 0; a shorter text ends in `<eos>`."""
        words = self._split(text)[:N_WORDS]
        words += [END] if len(words) < N_WORDS else []
        ids = [self._ids.get(word, self._ids[UNKNOWN]) for word in words]
        return ids + [0] * (N_WORDS - len(ids))

    def is_cut(self, text: str) -> bool:
        return len(self._split(text)) > N_WORDS

    @staticmethod
    def _split(text: str) -> list[str]:
        words = [word for word in _WORDS.split(text.lower().strip()) if word not in ("", " ")]
        return words[:-1] if words[-1:] == ["."] else words
