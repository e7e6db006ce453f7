import pytest

from pipeline.corpus.tokenizer import tokenize
from schema.errors import ConfigError

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
FRANCE, GERMANY = "\U0001f1eb\U0001f1f7", "\U0001f1e9\U0001f1ea"
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
THUMB, HEART, KEYCAP = "\U0001f44d\U0001f3fd", "\u2764\ufe0f", "1\ufe0f\u20e3"


def words(text, tokenizer="en"):
    return [text[start:end] for start, end in tokenize(text, tokenizer)]


@pytest.mark.parametrize("emoji", [FAMILY, FRANCE, ENGLAND, THUMB, HEART, KEYCAP])
@pytest.mark.parametrize("tokenizer", ["en", "characters"])
def test_an_emoji_sequence_or_a_flag_is_one_word(emoji, tokenizer):
    assert words(emoji, tokenizer) == [emoji]
    assert words(f"a {emoji} b", tokenizer) == ["a", emoji, "b"]
    assert words(f"a{emoji}b", tokenizer) == ["a", emoji, "b"]
    assert words(f"{FRANCE}{GERMANY}{emoji}", tokenizer) == [FRANCE, GERMANY, emoji]


def test_other_languages_by_their_code():
    assert words("l'eau d'Oslo", "fr") == ["l'", "eau", "d'", "Oslo"]
    assert words("l'eau", "xx") == ["l'eau"]
    assert words("東京都 へ", "characters") == ["東", "京", "都", "へ"]
    assert words("か\u3099 e\u0301", "characters") == ["か\u3099", "e\u0301"], "a mark stays with its character"


def test_a_tokenizer_that_does_not_exist_is_named():
    with pytest.raises(
        ConfigError, match=r"source\.tokenizer: no tokenizer 'qq' .*use the code of one of spaCy's languages"
    ):
        tokenize("Hi", "qq")
