"""Tokenizes raw text by spaCy's rules for a language, or into characters; an emoji sequence or flag is one word."""

import re
from collections.abc import Callable
from functools import cache
from itertools import groupby
from typing import Any

from schema.errors import ConfigError

Offsets = tuple[tuple[int, int], ...]  # [start, end) characters of each word

CHARACTERS = "characters"
_PICTOGRAPH = "[\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
_MODIFIED = f"{_PICTOGRAPH}[\ufe0f\U0001f3fb-\U0001f3ff]*"
_EMOJI = re.compile(
    "[\U0001f1e6-\U0001f1ff]{2}"  # a flag: two regional indicators
    "|[0-9#*]\ufe0f?\u20e3"  # a keycap
    "|\U0001f3f4[\U000e0020-\U000e007f]+"  # a flag of a region
    f"|{_MODIFIED}(?:\u200d{_MODIFIED})*"  # one emoji, or several by zero-width joiners
)
_CHARACTER = re.compile(
    rf"{_EMOJI.pattern}|[^\s\u200b\u2060\ufeff][\u0300-\u036f\u3099\u309a\ufe00-\ufe0f\u20d0-\u20ff]*"
)


def tokenize(text: str, tokenizer: str = "en") -> Offsets:
    """Words of a text; raises ConfigError for a tokenizer that does not exist or is not installed."""
    if tokenizer == CHARACTERS:
        return tuple(match.span() for match in _CHARACTER.finditer(text))
    words = [(token.idx, token.idx + len(token)) for token in _spacy(tokenizer)(text) if not token.is_space]
    words += [match.span() for match in _EMOJI.finditer(text) if len(match[0]) > 1]
    owner = [0] * len(text)  # the number of each character's word, 0 for none; emoji are cut out of other words
    for number, (start, end) in enumerate(words, start=1):
        owner[start:end] = [number] * (end - start)
    groups = (list(group) for number, group in groupby(range(len(text)), owner.__getitem__) if number)
    return tuple((group[0], group[-1] + 1) for group in groups)


@cache
def _spacy(code: str) -> Callable[[str], Any]:
    from spacy.util import get_lang_class  # late: spaCy takes a second to import, and only raw text needs it

    try:
        return get_lang_class(code)().tokenizer
    except ImportError as error:  # no such language, or one whose tokenizer is a package of its own
        todo = f"use the code of one of spaCy's languages (en, de, fr, xx for any) or {CHARACTERS}"
        what, found = f"no tokenizer {code!r}", str(error).strip()
        raise ConfigError(what, where="source.tokenizer", found=found, todo=todo) from None
