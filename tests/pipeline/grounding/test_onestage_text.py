"""Text encoders against torch's packed LSTM and transformers' BERT; texts as the toolkit splits them."""

from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.grounding.onestage.text import N_WORDS, BertText, Corpus, LstmText, Pieces
from schema.errors import WeightsError
from tests.pipeline.grounding import released

PAD, EOS, UNK = 0, 2, 3
QUERIES = [[4, 7, 2], [5, 2], [4, 5, 6, 7, 8, 9, 2], [3]]


def padded(rows: list[list[int]], width: int = N_WORDS) -> torch.Tensor:
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])


def test_an_lstm_s_two_directions_at_the_last_word() -> None:
    torch.manual_seed(0)
    text = LstmText(12, 5, 7).eval()
    whole = nn.LSTM(7, 7, batch_first=True, bidirectional=True)
    state = dict(text.ahead.state_dict())
    state |= {f"{name}_l0_reverse": value for name, value in text.back.state_dict().items()}
    whole.load_state_dict(state)
    with torch.no_grad():
        found = text(padded(QUERIES))
        for row, ids in zip(found, QUERIES, strict=True):
            answer = whole(text.mlp(text.embedding(torch.tensor([ids]))))[0]
            assert torch.allclose(row, answer[0, len(ids) - 1], atol=1e-6)
            assert not torch.allclose(row[7:], answer[0, 0, 7:], atol=1e-3) or len(ids) == 1
    assert text.dim == 14


def test_an_lstm_s_row_follows_neither_neighbours_nor_padding() -> None:
    torch.manual_seed(0)
    text = LstmText(12, 5, 7).eval()
    with torch.no_grad():
        together = text(padded(QUERIES))
        text.embedding.weight[PAD] += 5
        assert torch.equal(text(padded(QUERIES)), together)
        assert torch.equal(text(padded(QUERIES[::-1])), together.flip(0))


def test_bert_s_four_last_layers_at_its_first_piece() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 8}
    text = BertText(vocab_size=14, **sizes).eval()
    layers: list[torch.Tensor] = []
    for layer in text.bert.encoder.layer:
        layer.register_forward_hook(lambda _m, _i, out: layers.append(out[0] if isinstance(out, tuple) else out))
    with torch.no_grad():
        for ids in ([2, 7, 3], [2, 5, 6, 9, 3]):
            layers.clear()
            row = text(padded([ids]))[0]
            layers.clear()  # of the padded pass
            text.bert(torch.tensor([ids]))  # without padding
            expected = sum(layer.view(-1, len(ids), 8)[0, 0] for layer in layers[-4:]) / 4
            assert torch.allclose(row, expected, atol=1e-6)
    assert text.dim == 8
    full = [[2, *[5] * 18, 3]] * 2
    with torch.no_grad():  # neighbours without padding change no bit of a row
        assert torch.equal(text(padded(full))[0], text(padded([full[0], [2, 7, 3]]))[0])


def test_words_as_the_toolkit_splits_them() -> None:
    corpus = Corpus(released.CORPUS)

    def ids(text: str) -> list[int]:
        found = corpus.encode(text)
        assert len(found) == N_WORDS
        return found[: N_WORDS - found.count(PAD)]

    assert ids("The left DOG") == [4, 6, 8, EOS]
    assert ids("left, dog.") == [6, 11, 8, EOS]  # ", " is a word of the list, a closing full stop is none
    assert ids("dog - zebra") == [8, UNK, UNK, EOS]
    assert ids("") == ids(".") == [EOS]
    assert ids("dog " * 19) == [8] * 19 + [EOS]
    assert ids("dog " * 30) == [8] * N_WORDS
    assert (corpus.is_cut("dog " * 20), corpus.is_cut("dog " * 21)) == (False, True)


def test_pieces_of_bert(tmp_path: Path) -> None:
    pieces = Pieces(released.words(tmp_path, "bert"))
    known = {word: index for index, word in enumerate(released.VOCABULARY)}
    expected = ["[CLS]", "the", "red", "cat", "##s", ",", "[UNK]", "!", "[SEP]"]
    assert pieces.encode("The RED cats, zebra!") == [known[word] for word in expected] + [PAD] * 11
    assert pieces.encode("") == [2, 3] + [PAD] * 18
    long = pieces.encode("dog " * 40)
    assert (long[0], long[-1], len(long)) == (2, 3, N_WORDS)
    assert (pieces.is_cut("dog " * 18), pieces.is_cut("dog " * 19)) == (False, True)


@pytest.mark.parametrize("words", [[], ["<unk>", "<pad>", "<eos>"], ["<pad>", "<unk>"], ["<pad>", "<eos>"]])
def test_lists_that_no_lstm_was_trained_with(words: list[str]) -> None:
    with pytest.raises(WeightsError, match=r"a word list must start with <pad> and contain <unk> and <eos>"):
        Corpus(words)
