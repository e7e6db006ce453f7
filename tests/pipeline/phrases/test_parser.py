import pytest

from pipeline.phrases.parser import Parsed
from schema.errors import DataError


@pytest.mark.parametrize("span", [(1, 1, "NP"), (-1, 1, "NP"), (0, 1, "")])
def test_a_constituent_checks_itself(span):
    with pytest.raises(DataError, match="a constituent needs 0 <= start < end and a label"):
        Parsed((span,))


def test_an_answer_may_be_empty():
    assert Parsed(()).spans == ()
