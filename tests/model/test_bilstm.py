"""The turned-round LSTM against torch's bidirectional one over packed sequences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from model.baselines.layers import BiLSTM

LENGTHS = torch.tensor([3, 5, 1])


@pytest.fixture
def made() -> tuple[BiLSTM, Tensor]:
    torch.manual_seed(0)
    return BiLSTM(4, 3).double(), torch.randn(3, 5, 4, dtype=torch.float64)


def packed(ours: BiLSTM, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """States [B, N, 2H], zeros at padding, and last states [B, 2H]."""
    peer = nn.LSTM(4, 3, batch_first=True, bidirectional=True).double()
    weights = {f"{name}_reverse": value for name, value in ours.backward_lstm.state_dict().items()}
    peer.load_state_dict({**ours.forward_lstm.state_dict(), **weights})
    states, (last, _) = peer(pack_padded_sequence(inputs, LENGTHS, batch_first=True, enforce_sorted=False))
    return pad_packed_sequence(states, batch_first=True, total_length=5)[0], torch.cat([last[0], last[1]], 1)


def test_states_are_those_of_a_packed_bidirectional_lstm(made: tuple[BiLSTM, Tensor]) -> None:
    ours, inputs = made
    states, last = packed(ours, inputs)
    real = torch.arange(5) < LENGTHS[:, None]
    torch.testing.assert_close(ours(inputs, LENGTHS)[real], states[real])
    torch.testing.assert_close(ours.last(inputs, LENGTHS), last)


def test_padding_is_not_seen(made: tuple[BiLSTM, Tensor]) -> None:
    ours, inputs = made
    real = torch.arange(5) < LENGTHS[:, None]
    noisy = inputs.masked_fill(~real[..., None], 1e3)
    assert torch.equal(ours(noisy, LENGTHS)[real], ours(inputs, LENGTHS)[real])
    assert torch.equal(ours.last(noisy, LENGTHS), ours.last(inputs, LENGTHS))


def test_it_starts_remembering(made: tuple[BiLSTM, Tensor]) -> None:
    for lstm in (made[0].forward_lstm, made[0].backward_lstm):
        assert (lstm.bias_ih_l0 + lstm.bias_hh_l0).tolist() == [*[0.0] * 3, *[1.0] * 3, *[0.0] * 6]
        bound = (6 / (4 + 3)) ** 0.5  # Glorot's, for one gate's 3 x 4
        assert 0.8 * bound < float(lstm.weight_ih_l0.detach().abs().max()) <= bound
