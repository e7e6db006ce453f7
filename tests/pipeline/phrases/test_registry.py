import pytest

from pipeline.phrases.config import PhrasesConfig, open_parser
from schema.errors import WeightsError


def test_the_digest_is_checked():
    parser = open_parser(PhrasesConfig())
    assert open_parser(PhrasesConfig(digest=parser.identity["weights"])).identity == parser.identity
    with pytest.raises(WeightsError, match=r"the embedded parser does not match phrases\.digest"):
        open_parser(PhrasesConfig(digest="0" * 64))


@pytest.mark.parametrize("parser", ["embedded", "noun-chunks", "benepar"])
def test_a_missing_model_says_what_to_do(parser):
    with pytest.raises(WeightsError, match=r"the parser 'no_such_model' is not on this machine .*fetch|spacy download"):
        open_parser(PhrasesConfig(parser=parser, model="no_such_model"))
