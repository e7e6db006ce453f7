"""Text from posts is not ours: what controls a terminal, a reading direction or a spreadsheet never gets through."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

WORD_CHARS = 80  # longest word that is shown whole; no natural word is longer, and a line of a page holds as much
TEXT_CHARS = 300  # longest title, phrase or value that is shown whole
BLANK = "␣"  # stands for a word of which nothing can be seen, so that its place stays visible
HIDDEN_NAME, HIDDEN_LINK = "@…", "[link]"

# Beyond control characters (Cc): marks that turn the reading direction, break lines, or show nothing at all.
_REMOVED = {
    *"\u200b\u200e\u200f\u061c\u2060\ufeff\u00ad\u180e",
    *map(chr, range(0x202A, 0x202F)),  # embeddings and overrides
    *map(chr, range(0x2066, 0x2070)),  # isolates and deprecated format characters
    *map(chr, range(0xFFF9, 0xFFFC)),  # interlinear annotation
}
_LINE_ENDS = set("\t\n\r\v\f\x85\u2028\u2029")
_LINK = re.compile(
    r"(?:https?\b|ftp\b|www\.)\S*|\S*//\S*"
    r"|(?<![@\w.-])[\w-]+(?:\.[\w-]+)*\.(?:[a-z]{2,}/\S*|(?:com|org|net|edu|gov|info|co|uk|de|fr|io|ly|tv|me|gl|be)\b)",
    re.IGNORECASE,
)
_NAME = re.compile(r"[\w.+-]*@[\w.@-]*")  # an address of mail or of another network too


def safe_text(value: object, limit: int | None = TEXT_CHARS) -> str:
    """`value` as one line of text that can do nothing: no control character, no direction mark, no lone surrogate.

    Tabs and line ends become spaces; more than `limit` characters (None: any number) are cut, with a mark.
    """
    kept = "".join(_safe(char) for char in str(value))
    if limit is not None and len(kept) > limit:
        return f"{kept[:limit]}… ({len(kept)} characters)"
    return kept


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


def _safe(char: str) -> str:
    if char in _LINE_ENDS:
        return " "
    category = unicodedata.category(char)
    if category == "Cs":
        return "\ufffd"  # cannot be written as UTF-8
    return "" if category == "Cc" or char in _REMOVED else char


def _leaves_a_mark(char: str) -> bool:
    return unicodedata.category(char) not in ("Zs", "Cf", "Cn", "Mn", "Me")
