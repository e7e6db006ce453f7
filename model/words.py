"""Words to vectors: a pretrained BERT-type encoder on disk, word pieces, and one vector per word, for [CLS] and [SEP].

Words are cut into pieces one by one, so that fast and slow tokenizers give the same alignment. A post with more pieces
than the encoder takes becomes overlapping windows; each word's vector comes from one of them.

Letters: B posts, T text cells (words + 2), W encoder windows, P pieces of a window, E the encoder's width.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers as hf  # its classes are imported when they are first used, which takes seconds
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from bert import Bert, BertConfig
from cache import hub
from cache.models import MINILM_SHA256, minilm_folder
from kernels import use_onednn
from model.config import TrainConfig
from schema.errors import ConfigError, WeightsError
from vision.torch_files import DAMAGED, reason

BERTWEET = "BertweetTokenizer"  # its class in transformers
UNUSED = "pooler."  # a layer over [CLS] that is never used; many checkpoints lack it


def find_encoder(config: TrainConfig) -> tuple[Path, dict[str, str]]:
    """The folder of the encoder that `config` names, with the digest of its weights and a hub model's commit.

    Needs no network. Raises WeightsError if it is not on this machine or is not the pinned one.
    """
    if config.encoder == "embedded":
        folder, digest = minilm_folder(), MINILM_SHA256
    else:
        folder = config.encoder_ref().locate()
        try:
            digest = hub.digest(folder)
        except WeightsError as error:
            raise _unloadable(config.encoder, folder, error.what) from None
    if config.encoder_digest not in ("", digest):
        what = f"the encoder {config.encoder!r} does not match train.encoder_digest"
        todo = f"fmit models fetch {config.encoder}, or set train.encoder_digest to the digest of this model"
        raise WeightsError(what, where=str(folder), found=digest, todo=todo)
    revision = {"encoder_revision": folder.name} if folder.parent.name == "snapshots" else {}
    return folder, {"encoder": digest, **revision}


def load_encoder(folder: Path, name: str, *, pretrained: bool) -> tuple[Any, Any]:
    """Tokenizer and model in float32; if `pretrained` is false, the weights are not loaded and the caller sets them.

    Runs no code from the folder and reads pickles as tensors only. Raises WeightsError for damaged or missing weights.
    """
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        if wrong := hub.bad_json(folder):
            raise ValueError(wrong)
        tokenizer: hf.PreTrainedTokenizerBase = hf.AutoTokenizer.from_pretrained(str(folder), **options)
        if not set(tokenizer.get_vocab()) - {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}:
            raise ValueError("no vocabulary: the tokenizer's files are missing")  # transformers says nothing
        tokenizer = as_pretrained(tokenizer)
        config = BertConfig.of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        if config and not pretrained:
            return tokenizer, Bert(config)
        if not pretrained:
            return tokenizer, hf.AutoModel.from_config(hf.AutoConfig.from_pretrained(str(folder), **options)).float()
        model, loading = hf.AutoModel.from_pretrained(str(folder), output_loading_info=True, **options)
    except (*DAMAGED, OSError, ImportError, SafetensorError) as error:
        raise _unloadable(name, folder, reason(error)) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    missing = sorted(key for key in loading["missing_keys"] if not key.startswith(UNUSED))
    if missing:
        raise _unloadable(name, folder, f"{len(missing)} tensor(s) missing: {', '.join(missing[:3])}")
    n_embeddings = model.get_input_embeddings().weight.shape[0]
    if tokenizer.vocab_size > n_embeddings:
        raise _unloadable(name, folder, f"the tokenizer has {tokenizer.vocab_size} pieces, the model {n_embeddings}")
    if not (config := BertConfig.of(model.config.to_dict())):
        return tokenizer, model.float()
    bert = Bert(config)
    bert.load_state_dict({key: value for key, value in model.state_dict().items() if not key.startswith(UNUSED)})
    return tokenizer, bert


def as_pretrained(tokenizer: "hf.PreTrainedTokenizerBase") -> "hf.PreTrainedTokenizerBase":
    """The tokenizer, with the text normalization of its pretraining: BERTweet's @USER, HTTPURL, :emoji_names:."""
    if type(tokenizer).__name__ == BERTWEET:
        if tokenizer.demojizer is None:
            raise WeightsError("BERTweet needs the package emoji", todo="pip install 'fmit[bertweet]'")
        tokenizer.normalization = True
    return tokenizer


def _unloadable(name: str, folder: Path, reason: str) -> WeightsError:
    todo = f"fmit models verify {name}; then fetch it again, or give a folder with config, tokenizer and weights"
    found = reason[:300] or "no reason given"
    return WeightsError(f"cannot load the encoder {name!r}", where=str(folder), found=found, todo=todo)


CONTEXT_SHARE = 4  # ours: a window repeats up to 1/4 of its pieces from the one before
NO_CELL = -1


class Encoded(NamedTuple):
    """A post as windows of piece ids; `cells`: the text cell of each piece, -1 if another window gives its vector."""

    windows: tuple[tuple[int, ...], ...]
    cells: tuple[tuple[int, ...], ...]
    n_words: int  # words that have a vector: all of them unless overflow is "truncate"


class Pieces:
    """Words to piece ids."""

    def __init__(self, tokenizer: "hf.PreTrainedTokenizerBase", max_pieces: int, overflow: str, pooling: str) -> None:
        for name in ("cls_token_id", "sep_token_id", "unk_token_id", "pad_token_id"):
            if getattr(tokenizer, name) is None:
                todo = "use a BERT-type model with [CLS], [SEP] and [UNK]"
                raise WeightsError(f"the encoder's tokenizer has no {name}", todo=todo)
        self.tokenizer, self.limit = tokenizer, max_pieces - 2  # without [CLS] and [SEP]
        self.overflow, self.pooling = overflow, pooling
        # byte-level vocabularies mark a word's start by the space before it
        self._lead = " " if tokenizer.tokenize(" a") != tokenizer.tokenize("a") else ""
        self._cache: dict[str, tuple[int, ...]] = {}

    def of_word(self, word: str) -> tuple[int, ...]:
        """Piece ids of a word, at most one window; the unknown piece for a word without any (U+00A0, U+FE0F)."""
        if word not in self._cache:
            names = self.tokenizer.tokenize(self._lead + word) or [self.tokenizer.unk_token]
            ids: Any = self.tokenizer.convert_tokens_to_ids(names[: self.limit])
            self._cache[word] = tuple(ids)
        return self._cache[word]

    def encode(self, words: Sequence[str]) -> Encoded:
        """Windows of a post of at least one word, whatever the words contain."""
        pieces = [self.of_word(word) for word in words]
        bounds = windows([len(ids) for ids in pieces], self.limit)
        if self.overflow == "truncate":
            bounds = bounds[:1]
        n_words = bounds[-1][1]
        ids, cells = [], []
        for index, (start, end) in enumerate(bounds):
            first_word = (start + bounds[index - 1][1]) // 2 if index else 0
            end_word = (bounds[index + 1][0] + end) // 2 if index + 1 < len(bounds) else n_words
            row, owner = [self.tokenizer.cls_token_id], [0 if index == 0 else NO_CELL]
            for word in range(start, end):
                row += pieces[word]
                owner += [word + 1 if first_word <= word < end_word else NO_CELL] * len(pieces[word])
            ids.append((*row, self.tokenizer.sep_token_id))
            cells.append((*owner, n_words + 1 if index + 1 == len(bounds) else NO_CELL))
        return Encoded(tuple(ids), tuple(cells), n_words)

    def collate(self, posts: Sequence[Encoded]) -> dict[str, Tensor]:
        """Tensors of a batch.

        `pieces` [W, P] int64 (pad id behind the real ones), `piece_mask` [W, P] bool, `pool` [W, T, P] float32 (weight
        of each piece in each cell's vector; zero at padding cells), `window_post` [W] int64.
        """
        rows = [(i, *window) for i, post in enumerate(posts) for window in zip(post.windows, post.cells, strict=True)]
        n_cells, n_pieces = max(post.n_words for post in posts) + 2, max(len(row) for _, row, _ in rows)
        pieces = torch.full((len(rows), n_pieces), int(self.tokenizer.pad_token_id or 0))
        mask = torch.zeros(len(rows), n_pieces, dtype=torch.bool)
        pool = torch.zeros(len(rows), n_cells, n_pieces)
        for window, (_, row, owner) in enumerate(rows):
            pieces[window, : len(row)] = torch.tensor(row)
            mask[window, : len(row)] = True
            pairs = [(cell, piece) for piece, cell in enumerate(owner) if cell != NO_CELL]
            if self.pooling == "first":
                pairs = [(cell, piece) for cell, piece in pairs if piece == 0 or owner[piece - 1] != cell]
            cell_index, piece_index = torch.tensor(pairs).reshape(-1, 2).unbind(1)
            pool[window, cell_index, piece_index] = 1.0
        pool /= pool.sum(-1, keepdim=True).clamp(min=1)
        window_post = torch.tensor([index for index, _, _ in rows])
        return {"pieces": pieces, "piece_mask": mask, "pool": pool, "window_post": window_post}


def windows(n_pieces: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """Word ranges `[start, end)` that cover all words, each of at most `limit` pieces (no word has more)."""
    bounds: list[tuple[int, int]] = []
    start = 0
    while True:
        end, used = start, 0
        while end < len(n_pieces) and used + n_pieces[end] <= limit:
            used += n_pieces[end]
            end += 1
        bounds.append((start, end))
        if end == len(n_pieces):
            return bounds
        start, used = end, 0
        most = min(limit // CONTEXT_SHARE, limit - n_pieces[end])  # pieces that the next window may repeat
        while used + n_pieces[start - 1] <= most:
            start -= 1
            used += n_pieces[start]


# Model types whose first two positions are reserved for padding.
SHIFTED_TYPES = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm"}
SHIFTED_TYPES |= {"data2vec-text", "xmod", "longformer", "mpnet", "ibert"}
FULL_MASK_TYPES = ("electra", "roberta", "xlm-roberta", "camembert") if int(hf.__version__.split(".")[0]) >= 5 else ()


def attention_mask(model: "hf.PreTrainedModel | Bert", real: Tensor, full: bool | None = None) -> Tensor | None:
    """The mask for pieces `real` bool [W, P]; on a GPU (or if `full`) it is [W, 1, P, P] where the model accepts that.

    Of a [W, P] mask transformers checks whether all of it is true, which stalls a GPU. Ours takes None for that.
    """
    full = real.is_cuda if full is None else full
    if isinstance(model, Bert):
        finished = full or not bool(real.all())
    else:
        finished = full and model.config.model_type in FULL_MASK_TYPES and model.config._attn_implementation == "sdpa"
    if finished:
        return real[:, None, None, :].expand(-1, 1, real.shape[1], -1)
    return None if isinstance(model, Bert) else real.long()


class WordEncoder(nn.Module):
    """A transformers encoder and the pooling of its pieces to words; `origin`: digest and revision of its weights."""

    def __init__(self, model: "hf.PreTrainedModel | Bert", pieces: Pieces, origin: Mapping[str, str]) -> None:
        super().__init__()
        self.model, self.featurizer, self.origin = model, pieces, dict(origin)
        use_onednn(model)
        self.dim: int = model.config.hidden_size
        if getattr(model, "pooler", None) is not None:
            model.register_module("pooler", None)  # see UNUSED

    def forward(self, inputs: Mapping[str, Tensor], n_posts: int) -> Tensor:
        """Vectors [B, T, E] of the cells of `Pieces.collate`'s inputs; zeros at padding cells."""
        mask = attention_mask(self.model, inputs["piece_mask"])
        hidden = self.model(input_ids=inputs["pieces"], attention_mask=mask).last_hidden_state  # [W, P, E]
        cells = inputs["pool"].to(hidden.dtype) @ hidden  # [W, T, E]
        if len(cells) == n_posts:
            return cells
        posts = cells.new_zeros(n_posts, *cells.shape[1:])
        return posts.index_add(0, inputs["window_post"], cells)  # zero in all windows but the word's own

    def save(self, folder: Path) -> None:
        """Write configuration and tokenizer, so that a run loads without the hub; its weights are saved apart."""
        self.model.config.save_pretrained(folder)
        tokenizer = self.featurizer.tokenizer
        tokenizer.save_pretrained(folder)
        if type(tokenizer).__name__ == BERTWEET:  # transformers writes the merges without the counts that it reads
            merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
            lines = [f"{' '.join(merge)} {len(merges) - rank}\n" for rank, merge in enumerate(merges)]
            (folder / tokenizer.vocab_files_names["merges_file"]).write_text("".join(lines), encoding="utf-8")


def build_words(config: TrainConfig, folder: Path | None = None) -> WordEncoder:
    """The encoder that `config` names (see `find_encoder`), or the architecture that a run saved, weights to follow."""
    source, origin = (folder, dict[str, str]()) if folder else find_encoder(config)
    tokenizer, model = load_encoder(source, config.encoder, pretrained=folder is None)
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None:
        usable = positions - (2 if model.config.model_type in SHIFTED_TYPES else 0)
        if config.max_pieces > usable:
            what, found = "max_pieces exceeds the positions of the encoder", f"{config.max_pieces} of {usable}"
            raise ConfigError(what, found=found, todo="lower train.max_pieces")
    return WordEncoder(model, Pieces(tokenizer, config.max_pieces, config.overflow, config.pooling), origin)
