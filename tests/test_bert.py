"""Our BERT against transformers', bit by bit: outputs, gradients, random numbers of dropout, names of weights."""

import copy
import json

import pytest
import torch
from transformers import AutoConfig, AutoModel
from transformers import BertConfig as TheirConfig

from bert import Bert, BertConfig
from cache.models import minilm_folder
from model.words import load_encoder

SIZE = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 60}


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    theirs = AutoModel.from_config(TheirConfig(**SIZE), add_pooling_layer=False)
    ours = Bert(BertConfig.of(theirs.config.to_dict()))
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def gradients(model, pieces, mask, dtype):
    model = copy.deepcopy(model)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        hidden = model(input_ids=pieces, attention_mask=mask).last_hidden_state
    hidden.float().square().sum().backward()
    return hidden.detach(), [(name, value.grad) for name, value in model.named_parameters()]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("lengths", [(9, 9, 9), (9, 4, 1)])
def test_every_bit_is_that_of_transformers(pair, train, dtype, lengths):
    ours, theirs = (model.train(train) for model in pair)
    real = torch.arange(9) < torch.tensor(lengths)[:, None]
    pieces = torch.randint(1, 60, (3, 9)) * real
    mask = None if bool(real.all()) else real[:, None, None, :].expand(-1, 1, 9, -1)
    found, expected = gradients(ours, pieces, mask, dtype), gradients(theirs, pieces, real.long(), dtype)
    assert torch.equal(found[0], expected[0])
    for (name, grad), (their_name, their_grad) in zip(found[1], expected[1], strict=True):
        assert name == their_name, "the order decides the last bits of the gradients' norm"
        assert torch.equal(grad, their_grad), name


def test_transformers_reads_its_config(tmp_path):
    config = BertConfig(hidden_size=24, num_attention_heads=2)
    config.save_pretrained(tmp_path)
    assert BertConfig.of(AutoConfig.from_pretrained(tmp_path).to_dict()) == config
    assert BertConfig.of(json.loads((tmp_path / "config.json").read_text())) == config


@pytest.mark.parametrize(
    "other", [{"model_type": "roberta"}, {"hidden_act": "relu"}, {"is_decoder": True}, {"model_type": None}]
)
def test_other_models_are_not_bert(other):
    assert BertConfig.of({"model_type": "bert", **SIZE, **other}) is None


def test_defaults_are_those_of_transformers():
    assert BertConfig.of(TheirConfig().to_dict()) == BertConfig() == BertConfig.of({"model_type": "bert"})


def test_loading_draws_the_random_numbers_that_transformers_draws():
    """So a seed's other weights, and with them its scores, do not depend on whose BERT it is."""
    torch.manual_seed(0)
    AutoModel.from_pretrained(str(minilm_folder()))
    expected = torch.rand(1)
    torch.manual_seed(0)
    load_encoder(minilm_folder(), "embedded", pretrained=True)
    assert torch.equal(torch.rand(1), expected)
