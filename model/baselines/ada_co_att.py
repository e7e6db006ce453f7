"""Ada-Co-ATT: Zhang et al., Adaptive Co-attention Network for Named Entity Recognition in Tweets (AAAI 2018).

B posts, N words, M cells of the 7x7 grid, D the pack's width, d = 2H the width of a word in context; U distinct
spellings of a batch, C characters of one. The equations are the paper's as public notes on it retell them; what only
the authors' public code (Keras) tells, and where it departs, is said below.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.baselines.layers import AdditiveAttention, Standard
from model.baselines.recurrent import (
    CNN_HIDDEN,
    CnnBiLSTMCRF,
    Spelling,
    WordTable,
    build_table,
    draw_glorot,
    draw_uniform,
)
from model.data import Batch
from model.tagger import ModelSpec
from model.vocabulary import Vocabulary

# The public code's numbers: units of both attentions, floats of a character, windows and filters of each.
UNITS, CHAR_DIM, WINDOWS, N_FILTERS = 200, 30, (2, 3, 4), 32


class CharWindows(Spelling):
    """Filters of several windows: w'_j = max over i of tanh(C_j c[i..i+l_j-1] + b_j), and all w'_j side by side.

    Windows begin at each character and see zeros behind the last. The public code stacks its three convolutions, with
    ReLU and pooling between, and puts two layers behind; in the paper they stand side by side. Dropout on the
    characters' vectors is Ma and Hovy's.
    """

    def __init__(self, n_characters: int, dropout: float) -> None:
        super().__init__()
        self.dim = N_FILTERS * len(WINDOWS)
        self.characters = nn.Embedding(n_characters, CHAR_DIM)
        draw_uniform(self.characters)
        layers = [nn.Conv1d(CHAR_DIM, N_FILTERS, window) for window in WINDOWS]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.filters = nn.ModuleList(layers)
        self.dropout = nn.Dropout(dropout)

    def forward(self, spellings: Tensor, n_chars: Tensor) -> Tensor:
        real = torch.arange(spellings.shape[1], device=spellings.device) < n_chars[:, None]  # [U, C]
        vectors = (self.dropout(self.characters(spellings)) * real[..., None]).transpose(1, 2)
        values = [layer(F.pad(vectors, (0, window - 1))) for layer, window in zip(self.filters, WINDOWS, strict=True)]
        return torch.cat(values, dim=1).masked_fill(~real[:, None], -torch.inf).amax(dim=2).tanh()


class CoAttention(nn.Module):
    """The network between BiLSTM and CRF, for each word h_t; cells v_i are tanh(W_I v + b) of the pack's, of width d.

    That the pack's features are standardised before is ours, and so is dropout on them: a ReLU's have a large mean in
    common, so what differs between cells hardly comes through so many layers, and pictures are learned by heart.

    Word-guided visual attention: alpha_t = softmax(w . tanh(W_v v_i (+) (W_h h_t + b))), v_t = sum_i alpha_ti v_i.
    Image-guided textual attention: beta_t = softmax(w . tanh(W_x h_j (+) (W_v v_t + b))), x_t = sum_j beta_tj h_j.
    Fusion gate: g_t = sigmoid(W [tanh(W v_t + b); tanh(W x_t + b)]), m_t = g_t tanh(..v_t) + (1 - g_t) tanh(..x_t).
    Filtration gate: s_t = sigmoid(W_h h_t (+) (W_m m_t + b)), u_t = s_t tanh(W m_t + b), and W [h_t; u_t] goes on.
    Where a post has no picture, v_t is zero: ours.

    The paper reads (+) as a concatenation. In the attentions alpha_t would then not depend on h_t (see
    AdditiveAttention); ours is the sum, as in the attention that it follows (Yang et al. 2016). In the filtration gate
    it leaves open how that becomes s_t; ours is sigmoid(W [h_t; m_t] + b). Both gates are one number a word, as in the
    public code. That code departs from the paper in more: g_t sees the sum of its two parts, m_t is a linear map of
    both gated parts side by side, s_t sees m_t alone and gates it without a layer between, and x_t sums W_x h_j.
    """

    def __init__(self, width: int, object_dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.standard = Standard(object_dim)
        self.cells = nn.Linear(object_dim, width)
        self.visual = AdditiveAttention(width, width, UNITS)
        self.textual = AdditiveAttention(width, width, UNITS)
        self.new_visual, self.new_textual = nn.Linear(width, width), nn.Linear(width, width)
        self.fusion = nn.Linear(2 * width, 1, bias=False)
        self.filtration = nn.Linear(2 * width, 1)
        self.reserved = nn.Linear(width, width)
        self.joined = nn.Linear(2 * width, width, bias=False)
        draw_glorot(self)
        self.cells.reset_parameters()  # torch's own: standardised features by Glorot's would saturate the tanh

    def forward(self, words: Tensor, word_mask: Tensor, cells: Tensor, cell_mask: Tensor) -> Tensor:
        """Words [B, N, d] with mask bool [B, N] and cells [B, M, D] with mask bool [B, M]: words [B, N, d]."""
        cells = self.cells(self.dropout(self.standard(cells))).tanh()
        seen = self.visual(words, cells, cell_mask) @ cells  # v_t, [B, N, d]
        read = self.textual(seen, words, word_mask) @ words.masked_fill(~word_mask[..., None], 0.0)  # x_t
        visual, textual = self.new_visual(seen).tanh(), self.new_textual(read).tanh()
        gate = torch.sigmoid(self.fusion(torch.cat([visual, textual], dim=2)))
        fused = gate * visual + (1 - gate) * textual  # m_t
        noise_gate = torch.sigmoid(self.filtration(torch.cat([words, fused], dim=2)))
        return self.joined(torch.cat([words, noise_gate * self.reserved(fused).tanh()], dim=2))


class AdaCoAtt(CnnBiLSTMCRF):
    """CNN-BiLSTM-CRF with the co-attention between its two halves, and characters read by several windows.

    The public code, which has a BiLSTM below this one for words alone, is not followed there.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        words: WordTable,
        n_tags: int,
        dropout: float,
        object_dim: int,
        hidden: int = CNN_HIDDEN,
    ) -> None:
        super().__init__(vocabulary, words, n_tags, dropout, hidden, CharWindows(vocabulary.n_characters, dropout))
        self.co_attention = CoAttention(self.context.dim, object_dim, dropout)

    def prepare(self, features: Iterable[np.ndarray]) -> None:
        self.co_attention.standard.learn(features)

    def contexts(self, batch: Batch, vectors: Tensor) -> Tensor:
        """Words [B, N, 2H] that know the picture; anything at padding."""
        words, cells = super().contexts(batch, vectors), batch.objects.to(vectors.dtype)
        return self.co_attention(words, batch.word_mask, cells, batch.object_mask)


def build(spec: ModelSpec) -> AdaCoAtt:
    """The baseline with the sizes of CNN-BiLSTM-CRF; new weights come from torch's global generator."""
    vocabulary, words = build_table(spec)
    return AdaCoAtt(vocabulary, words, len(spec.labels.tags), spec.config.dropout, spec.object_dim)
