"""BERT (Devlin et al. 2019, Section 5.3) and BERT-CRF: the encoder's word vectors, a linear layer, and a softmax per
word or a CRF. Text only."""

import torch
from torch import Tensor, nn

from model.crf import CRF, Transitions
from model.data import Batch
from model.tagger import EncoderTagger, ModelSpec


class BertCRF(EncoderTagger):
    """Emissions are a linear map of word vectors after dropout."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        n_tags = len(spec.labels.tags)
        self.tag = nn.Linear(self.words.dim, n_tags)
        self.crf = CRF(n_tags)

    def emissions(self, batch: Batch) -> Tensor:
        return self.tag(self.read(batch)[:, 1:-1])


class Bert(BertCRF):
    """Emissions as BERT-CRF; the loss is the words' cross-entropy."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.crf = Softmax(len(spec.labels.tags))


class Softmax(CRF):
    """Independent words: a CRF without parameters whose transitions are all zero, so its marginals are softmaxes."""

    def __init__(self, num_tags: int) -> None:
        nn.Module.__init__(self)  # that of the CRF would create parameters
        self.num_tags, self.batch_first = num_tags, True
        for name, shape in (("start", (num_tags,)), ("end", (num_tags,)), ("", (num_tags, num_tags))):
            self.register_buffer(f"{name}_transitions".lstrip("_"), torch.zeros(shape), persistent=False)

    def decode(
        self, emissions: Tensor, mask: Tensor | None = None, allowed: Transitions | None = None
    ) -> list[list[int]]:
        """The best tag of each word; `allowed` has no effect: an `I-` may follow anything, as in the paper."""
        return super().decode(emissions, mask)
