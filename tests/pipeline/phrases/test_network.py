"""Scores of spans are what the network says of its words, whatever pads them."""

import torch

from pipeline.phrases.span_network import Size, SpanNet, encode

PIECES = [[(5,), (6, 7), (8,)], [(9,)]]
WORDS = [["the", "Dogs", "2"], ["Hi"]]


def net() -> SpanNet:
    torch.manual_seed(0)
    return SpanNet(Size(minilm_layers=1, rank=2, width=16, layers=1, hidden=8, n_labels=3, n_tags=0)).eval()


def test_padding_changes_no_score():
    model = net()
    with torch.no_grad():
        short = encode(WORDS[:1], PIECES[:1], 8)
        long = encode(WORDS, PIECES, 12)
        a = model.fences(model.words(*short))
        b = model.fences(model.words(*long))
    torch.testing.assert_close(a[0, :4], b[0, :4], atol=1e-5, rtol=1e-5)


def test_a_spans_score_is_read_off_its_two_fences():
    model = net()
    fences = torch.randn(1, 4, 8)
    zero = torch.tensor([0])
    one = model.spans(fences, zero, torch.tensor([1]), torch.tensor([3]))
    moved = fences.clone()
    moved[0, 2] += 5
    torch.testing.assert_close(model.spans(moved, zero, torch.tensor([1]), torch.tensor([3])), one)
    moved[0, 3] += torch.randn(8)
    assert not torch.allclose(model.spans(moved, zero, torch.tensor([1]), torch.tensor([3])), one)


def test_the_state_holds_nothing_of_minilm():
    frozen = [name for name in net().state_dict() if name.startswith("minilm") and not name.endswith((".up", ".down"))]
    assert not frozen
