import pytest
from transformers import AutoTokenizer

from cache.models import minilm_folder
from pipeline.phrases.benepar import load_chart_parser, with_special_tokens
from schema.errors import WeightsError


def test_the_method_that_went_is_given_back():
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    ids = tokenizer("dogs bark", add_special_tokens=False)["input_ids"]
    assert with_special_tokens(tokenizer).build_inputs_with_special_tokens(ids) == tokenizer("dogs bark")["input_ids"]


def test_a_tokenizer_that_has_it_keeps_its_own():
    class Whole:
        def build_inputs_with_special_tokens(self, ids):
            return ids

    whole = Whole()
    assert with_special_tokens(whole) is whole


@pytest.mark.parametrize("content", [None, b"no model"])
def test_what_is_no_model_is_said(tmp_path, content):
    path = tmp_path / "model.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a benepar model that can be loaded"):
        load_chart_parser(path)
