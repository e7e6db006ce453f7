"""Our own forward pass of MiniLM against transformers'."""

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
    dense = span_network.Dense(8, 6, 3)
    torch.nn.init.normal_(dense.up)
    dense.weight.normal_()
    x = torch.randn(5, 8)
    before = dense(x)
    dense.fold()
    assert dense.down.shape[0] == 0
    torch.testing.assert_close(dense(x), before)


def test_pieces_are_the_tokenizers():
    folder = minilm_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pieces = span_network.Pieces(folder / "tokenizer.json")
    words = ["Jordan", "unbelievableness", "\u00a0", "#1"]
    expected = [tokenizer(word, add_special_tokens=False)["input_ids"] or [tokenizer.unk_token_id] for word in words]
    assert [list(found) for found in pieces(words, 99)] == expected
    assert [len(found) for found in pieces(words, 1)] == [1] * 4
