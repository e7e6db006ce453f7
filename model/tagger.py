"""Taggers: what the trainer needs of an approach, and FMIT with entity boundary detection (Eq. 1-15).

Letters: B posts, T text cells, N = T - 2 words, M objects, D lattice width, K tags.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model.config import TrainConfig
from model.crf import CRF
from model.data import Batch, Featurizer
from model.interaction import FlatInteraction, Projection
from model.vocabulary import WordTable
from model.words import WordEncoder, build_words
from schema.labels import EBD_TAGS, LabelSet
from vision.backbones import CropNet


@dataclass(frozen=True)
class ModelSpec:
    """What an approach is built from. `assets`: a run's folder of vocabularies; None: training starts."""

    config: TrainConfig
    labels: LabelSet
    object_dim: int  # floats of an object's features
    assets: Path | None = None
    train_words: Sequence[Sequence[str]] = field(default=(), repr=False)  # for approaches that make a vocabulary


class Tagger(nn.Module):
    """What training and prediction need of an approach; FMIT and each baseline are subclasses."""

    words: WordEncoder | WordTable
    featurizer: Featurizer
    crf: CRF

    def __init__(self) -> None:
        super().__init__()
        self.crop_net: CropNet | None = None  # from `model.crops.crop_network`, to read crops

    def with_features(self, batch: Batch) -> Batch:
        """The batch with its crops, if any, turned into objects by the crop network."""
        if self.crop_net is None or batch.crops is None or batch.crop_index is None:
            return batch
        zeros = torch.zeros(1, self.crop_net.dim, device=batch.crops.device)
        rows = torch.cat([self.crop_net(batch.crops), zeros]) if len(batch.crops) else zeros
        features = rows.index_select(0, batch.crop_index.flatten() % len(rows))  # -1 is the last row
        return replace(batch, objects=features.view(*batch.crop_index.shape, -1))

    def prepare(self, features: Iterable[np.ndarray]) -> None:
        """Called once before the first step, with the object features [M, D] of each training post."""

    def emissions(self, batch: Batch) -> Tensor:
        """Tag scores [B, N, K] of a batch's words; padding is arbitrary."""
        raise NotImplementedError

    def losses(self, batch: Batch) -> Tensor:
        """[B] losses, float32, of a batch with tags."""
        return self.crf.nll(self.emissions(batch), batch.gold[0], batch.word_mask)

    def pretrained(self) -> Iterator[nn.Parameter]:
        """The parameters with the learning rate `lr_encoder`."""
        return iter(())


class EncoderTagger(Tagger):
    """A tagger on a pretrained encoder."""

    words: WordEncoder

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.words = build_words(spec.config, spec.assets)
        self.featurizer = self.words.featurizer
        self.dropout = nn.Dropout(spec.config.dropout)

    def read(self, batch: Batch) -> Tensor:
        """The encoder's vectors of the text cells, after dropout: [B, T, E]."""
        return self.dropout(self.words(batch.inputs, len(batch)))

    def pretrained(self) -> Iterator[nn.Parameter]:
        return self.words.parameters()


class FMIT(EncoderTagger):
    """The paper's model, as configured; new weights are drawn from torch's global generator."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        config, n_tags = spec.config, len(spec.labels.tags)
        sizes = (config.width, config.heads, config.layers, config.ffn_dim or 4 * config.width)
        self.interaction = FlatInteraction(*sizes, config.dropout, config.relative)
        self.boundary: FlatInteraction | None = None  # ebd "shared": `interaction` serves both
        if config.ebd == "separate":
            self.boundary = FlatInteraction(*sizes, config.dropout, config.relative)
        self.projection = Projection(self.words.dim, spec.object_dim, config.width)
        self.tag = nn.Linear(config.width, n_tags)  # W_crf and b_crf of Eq. 13
        self.crf = CRF(n_tags)
        self.detects_boundaries, self.ebd_weight = config.ebd != "off", config.ebd_weight
        if self.detects_boundaries:
            self.mark = nn.Linear(config.width, len(EBD_TAGS))
            self.boundary_crf = CRF(len(EBD_TAGS))

    def _lattice(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Eq. 1-2: text [B, T, D] and objects [B, M, D] of one width."""
        text = self.read(batch)
        return self.projection(text, self.dropout(batch.objects.to(text.dtype)))

    def _tag(self, batch: Batch, text: Tensor, objects: Tensor) -> Tensor:
        cells = self.interaction.forward_text(text, batch.text_mask, objects, batch.spans, batch.object_mask)
        return self.tag(self.dropout(cells[:, 1:-1]))

    def _mark(self, batch: Batch, text: Tensor) -> Tensor:
        """Boundary scores [B, N, 3] of T_W, which reads words only."""
        no_objects = (text[:, :0], batch.spans[:, :0], batch.object_mask[:, :0])
        cells = (self.boundary or self.interaction).forward_text(text, batch.text_mask, *no_objects)
        return self.mark(self.dropout(cells[:, 1:-1]))

    def emissions(self, batch: Batch) -> Tensor:
        return self._tag(batch, *self._lattice(batch))

    def losses(self, batch: Batch) -> Tensor:
        """Eq. 15 for each post: -(log p(Y|S,O) + lambda log p(Z|S))."""
        tags, boundaries = batch.gold
        text, objects = self._lattice(batch)
        loss = self.crf.nll(self._tag(batch, text, objects), tags, batch.word_mask)
        if not self.detects_boundaries:
            return loss
        return loss + self.ebd_weight * self.boundary_crf.nll(self._mark(batch, text), boundaries, batch.word_mask)
