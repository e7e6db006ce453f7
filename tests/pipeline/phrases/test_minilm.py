"""MiniLM below the parser: the library's numbers, low-rank updates on top."""

import copy

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from cache.models import minilm_folder
from pipeline.phrases import span_network


@pytest.fixture(scope="module")
def net():
    made = span_network.MiniLM(6, 0, 0.0).eval()
    made.load_package(minilm_folder() / "model.safetensors")
    return made


def test_every_layer_is_that_of_transformers(net):
    folder = minilm_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(["We saw Jordan near Phoenix .", "Hi"], return_tensors="pt", padding=True)
    reference = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        theirs = reference(**batch, output_hidden_states=True).hidden_states
        ours = net(batch["input_ids"], batch["attention_mask"].bool())
    real = batch["attention_mask"].bool()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine[real], other[real], atol=2e-4, rtol=1e-4)


def test_folding_changes_nothing_but_the_cost():
    torch.manual_seed(0)
    net = span_network.MiniLM(2, 3, 0.1).eval()
    for name, value in net.named_parameters():
        assert value.requires_grad, name
        torch.nn.init.normal_(value, std=0.1)
    ids = torch.tensor([[101, 5, 6, 102], [101, 7, 102, 0]])
    with torch.no_grad():
        before, plain = net(ids, ids != 0)[-1], span_network.MiniLM(2, 0, 0.1).eval()(ids, ids != 0)[-1]
        net.fold()
        torch.testing.assert_close(net(ids, ids != 0)[-1], before, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(before, plain, atol=0.1)


def test_a_copy_has_updates_of_its_own():
    net = span_network.MiniLM(1, 2, 0.0).eval()
    other = copy.deepcopy(net)
    ids = torch.tensor([[101, 5, 102]])
    before = net(ids, ids != 0)[-1]
    for value in other.parameters():
        torch.nn.init.normal_(value)
    assert torch.equal(net(ids, ids != 0)[-1], before)
    assert not torch.allclose(other(ids, ids != 0)[-1], before)


def test_pieces_are_the_tokenizers():
    folder = minilm_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pieces = span_network.Pieces(folder / "tokenizer.json")
    words = ["Jordan", "unbelievableness", "\u00a0", "#1"]
    expected = [tokenizer(word, add_special_tokens=False)["input_ids"] or [tokenizer.unk_token_id] for word in words]
    assert [list(found) for found in pieces(words, 99)] == expected
    assert [len(found) for found in pieces(words, 1)] == [1] * 4
