"""Ada-Co-ATT (Zhang et al. 2018): adaptive co-attention for tweets; differences: docs/baselines.md.

B posts, N words, M cells of the 7x7 grid, D the pack's width, d = 2H the width of a word in context; U distinct
spellings of a batch, C characters of one.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.baselines.layers import AdditiveAttention, Standardize
from model.baselines.recurrent import CnnBiLSTMCRF, Spelling, char_filters, draw_glorot
from model.data import Batch
from model.tagger import ModelSpec

# The public code's numbers: units of both attentions, floats of a character, windows and filters of each.
UNITS, CHAR_DIM, WINDOWS, N_FILTERS = 200, 30, (2, 3, 4), 32


class CharWindows(Spelling):
    """w'_j = max over i of tanh(C_j c[i..i+l_j-1] + b_j) for windows of several lengths l_j, with zeros at the end."""

    def __init__(self, n_characters: int, dropout: float) -> None:
        super().__init__(N_FILTERS * len(WINDOWS), n_characters, CHAR_DIM, dropout)
        self.filters = nn.ModuleList([char_filters(CHAR_DIM, N_FILTERS, window) for window in WINDOWS])

    def forward(self, spellings: Tensor, n_chars: Tensor) -> Tensor:
        vectors, real = self.read(spellings, n_chars)
        values = [layer(F.pad(vectors, (0, window - 1))) for layer, window in zip(self.filters, WINDOWS, strict=True)]
        return torch.cat(values, dim=1).masked_fill(~real, -torch.inf).amax(dim=2).tanh()


class CoAttention(nn.Module):
    """Between BiLSTM and CRF, for each word h_t; cells v_i = tanh(W_I v + b), of width d, come from the pack's cells v.

    Word-guided visual attention: alpha_t = softmax(w . tanh(W_v v_i (+) (W_h h_t + b))), v_t = sum_i alpha_ti v_i.
    Image-guided textual attention: beta_t = softmax(w . tanh(W_x h_j (+) (W_v v_t + b))), x_t = sum_j beta_tj h_j.
    Fusion gate: g_t = sigmoid(W [tanh(W v_t + b); tanh(W x_t + b)]), m_t = g_t tanh(..v_t) + (1 - g_t) tanh(..x_t).
    Filtration gate: s_t = sigmoid(W [h_t; m_t] + b), u_t = s_t tanh(W m_t + b), and W [h_t; u_t] is the CRF's input.
    """

    def __init__(self, width: int, object_dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.standard = Standardize(object_dim)
        self.cells = nn.Linear(object_dim, width)
        self.visual = AdditiveAttention(width, width, UNITS)
        self.textual = AdditiveAttention(width, width, UNITS)
        self.new_visual, self.new_textual = nn.Linear(width, width), nn.Linear(width, width)
        self.fusion = nn.Linear(2 * width, 1, bias=False)
        self.filtration = nn.Linear(2 * width, 1)
        self.reserved = nn.Linear(width, width)
        self.joined = nn.Linear(2 * width, width, bias=False)
        draw_glorot(self)
        self.cells.reset_parameters()  # torch's default: Glorot's would saturate the tanh of standardized features

    def forward(self, words: Tensor, word_mask: Tensor, cells: Tensor, cell_mask: Tensor) -> Tensor:
        """Words [B, N, d] with mask bool [B, N] and cells [B, M, D] with mask bool [B, M]: words [B, N, d]."""
        cells = self.cells(self.dropout(self.standard(cells))).tanh()
        visual = self.visual(words, cells, cell_mask) @ cells  # v_t, [B, N, d]
        textual = self.textual(visual, words, word_mask) @ words.masked_fill(~word_mask[..., None], 0.0)  # x_t
        visual, textual = self.new_visual(visual).tanh(), self.new_textual(textual).tanh()
        gate = torch.sigmoid(self.fusion(torch.cat([visual, textual], dim=2)))
        fused = gate * visual + (1 - gate) * textual  # m_t
        noise_gate = torch.sigmoid(self.filtration(torch.cat([words, fused], dim=2)))
        return self.joined(torch.cat([words, noise_gate * self.reserved(fused).tanh()], dim=2))


class AdaCoAtt(CnnBiLSTMCRF):
    """CNN-BiLSTM-CRF with the co-attention between its two halves, and characters read by several windows."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, CharWindows)
        self.co_attention = CoAttention(self.context.dim, spec.object_dim, spec.config.dropout)

    def contexts(self, batch: Batch, vectors: Tensor) -> Tensor:
        words, cells = super().contexts(batch, vectors), batch.objects.to(vectors.dtype)
        return self.co_attention(words, batch.word_mask, cells, batch.object_mask)
