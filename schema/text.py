"""Text from posts, made safe to print: it cannot control a terminal, the reading direction or a spreadsheet."""

import json
import re
import unicodedata
from collections.abc import Sequence

TEXT_CHARS = 300  # longest title, phrase or value that is not truncated

# Besides control characters (Cc): marks that change the reading direction, break lines, or are invisible.
_REMOVED = {
    *"\u200b\u200e\u200f\u061c\u2060\ufeff\u00ad\u180e",
    *map(chr, range(0x202A, 0x202F)),  # embeddings and overrides
    *map(chr, range(0x2066, 0x2070)),  # isolates and deprecated format characters
    *map(chr, range(0xFFF9, 0xFFFC)),  # interlinear annotation
}
_LINE_ENDS = set("\t\n\r\v\f\x85\u2028\u2029")
_MISLEADING = re.compile(f"[\x7f-\x9f\u2028\u2029\ud800-\udfff{''.join(sorted(_REMOVED))}]")  # JSON escapes the others
_FORMULA = re.compile(r"\s*[=+\-@|%＝＋－＠]")  # what a spreadsheet reads as a formula, leading blanks included
_MARKUP = re.compile(r"([\\`\[\]<>|])")  # characters that Markdown reads as links, HTML and table cells


def safe_text(value: object, limit: int | None = TEXT_CHARS) -> str:
    """`value` as one safe line: spaces for line ends, no control or direction marks, U+FFFD for a lone surrogate."""
    text = "".join(" " if char in _LINE_ENDS else char for char in str(value) if char not in _REMOVED)
    categories = {char: unicodedata.category(char) for char in set(text)}
    text = "".join("\ufffd" if categories[char] == "Cs" else char for char in text if categories[char] != "Cc")
    return text if limit is None or len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def first_of(names: Sequence[object], n: int = 10, separator: str = ", ") -> str:
    """The first `n` of many names, and how many more there are."""
    return separator.join(map(str, names[:n])) + (f" and {len(names) - n} more" if len(names) > n else "")


def guarded(cell: object) -> object:
    """A cell of a CSV file: numbers unchanged, text safe and never a formula (OWASP, CSV injection)."""
    if cell is None or isinstance(cell, (int, float)):
        return cell
    text = safe_text(cell, None)
    return "'" + text if _FORMULA.match(text) else text


def plain_markdown(value: object) -> str:
    """`value` as text that Markdown shows literally: no links, no HTML, no ends of table cells."""
    return _MARKUP.sub(r"\\\1", safe_text(value))


def inert_json(value: object, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """JSON with unescaped letters; only characters that could mislead a terminal or a reader are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=sort_keys)
    return _MISLEADING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
