"""VG-ATT (Lu et al. 2018): visual attention for name tagging; our reading of the paper: docs/baselines.md.

B posts, N words, M cells of the 7x7 grid, D the pack's width, H hidden units per direction.
"""

import torch
from torch import Tensor, nn

from model.baselines.layers import AdditiveAttention, BiLSTM, Standardize
from model.baselines.recurrent import HBILSTM_HIDDEN, HBiLSTMCRF
from model.data import Batch
from model.tagger import ModelSpec


class VgAtt(HBiLSTMCRF):
    """HBiLSTM-CRF with attention from the sentence to the image grid.

    Attention: A = tanh(W_v V (+) (W_t Q + b)), E = softmax(W_a A), v_c = sum_i E_i v_i over the grid's cells v_i, with
    Q the sentence. Modulation gate, for each word h_i: b_v = sigmoid(W h_i + U v_c + b), b_w and m = tanh(...) likewise
    with their own weights, and w_i = b_w * h_i + b_v * m goes to the CRF.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        width = self.context.dim
        self.standard = Standardize(spec.object_dim)
        self.sentence = BiLSTM(self.words.vocabulary.word_dim + self.spelling.dim, HBILSTM_HIDDEN)
        self.attention = AdditiveAttention(self.sentence.dim, spec.object_dim, width)
        self.gates = nn.Linear(width, 3 * width)  # W and b of b_v, b_w and m
        self.seen = nn.Linear(spec.object_dim, 3 * width, bias=False)  # U of the same

    def contexts(self, batch: Batch, vectors: Tensor) -> Tensor:
        words = super().contexts(batch, vectors)
        sentence = self.sentence.last(vectors, batch.inputs["n_words"])
        cells = self.standard(batch.objects.to(words.dtype))
        shares = self.attention(sentence[:, None], cells, batch.object_mask)  # [B, 1, M]
        visual = self.dropout(shares @ cells)  # v_c, [B, 1, D]
        gate_visual, gate_words, mixed = (self.gates(words) + self.seen(visual)).chunk(3, dim=2)
        return torch.sigmoid(gate_words) * words + torch.sigmoid(gate_visual) * mixed.tanh()
