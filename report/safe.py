"""Text from posts is not ours: what controls a terminal, a reading direction or a spreadsheet never gets through."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from schema.text import safe_text

WORD_CHARS = 80  # longest word that is shown whole; no natural word is longer, and a line of a page holds as much
BLANK = "␣"  # stands for a word of which nothing can be seen, so that its place stays visible
HIDDEN_NAME, HIDDEN_LINK = "@…", "[link]"

_LINK = re.compile(
    r"(?:https?\b|ftp\b|www\.)\S*|\S*//\S*"
    r"|(?<![@\w.-])[\w-]+(?:\.[\w-]+)*\.(?:[a-z]{2,}/\S*|(?:com|org|net|edu|gov|info|co|uk|de|fr|io|ly|tv|me|gl|be)\b)",
    re.IGNORECASE,
)
_NAME = re.compile(r"[\w.+-]*@[\w.@-]*")  # an address of mail or of another network too


def safe_word(word: str) -> str:
    """A word to show: safe, cut to `WORD_CHARS`, and never invisible."""
    shown = safe_text(word, WORD_CHARS)
    return shown if any(_leaves_a_mark(char) for char in shown) else BLANK


def redacted(words: Sequence[str]) -> tuple[str, ...]:
    """The words with @names and links hidden, as many as before; a name that the tokenizer split is hidden whole.

    Some corpora split `@name_` into `@ name _`, and `http://t.co/x` into `http : //t.co/x`. In doubt a word is hidden.
    """
    shown: list[str] = []
    awaited = ""  # what continues a split name: a "name" after a lone `@` or a joint, a "joint" after a part of a name
    for word in words:
        plain = unicodedata.normalize("NFKC", safe_text(word, None))
        is_joint = bool(plain) and not plain.strip("_")
        if (awaited == "name" and re.fullmatch(r"\w+", plain)) or (awaited == "joint" and is_joint):
            shown.append("…")
            awaited = "name" if is_joint else "joint"
            continue
        hidden = _NAME.sub(HIDDEN_NAME, _LINK.sub(HIDDEN_LINK, plain))
        shown.append(hidden if hidden != plain else word)
        awaited = "name" if plain.endswith("@") else "joint" if re.search(r"@\w+$", plain) else ""
    return tuple(shown)


def _leaves_a_mark(char: str) -> bool:
    return unicodedata.category(char) not in ("Zs", "Cf", "Cn", "Mn", "Me")
