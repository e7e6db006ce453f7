"""Text from posts is not ours: what controls a terminal, a reading direction or a spreadsheet never gets through."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence

TEXT_CHARS = 300  # longest title, phrase or value that is shown whole

# Beyond control characters (Cc): marks that turn the reading direction, break lines, or show nothing at all.
_REMOVED = {
    *"\u200b\u200e\u200f\u061c\u2060\ufeff\u00ad\u180e",
    *map(chr, range(0x202A, 0x202F)),  # embeddings and overrides
    *map(chr, range(0x2066, 0x2070)),  # isolates and deprecated format characters
    *map(chr, range(0xFFF9, 0xFFFC)),  # interlinear annotation
}
_LINE_ENDS = set("\t\n\r\v\f\x85\u2028\u2029")
_MISLEADING = re.compile(f"[\x7f-\x9f\u2028\u2029\ud800-\udfff{''.join(sorted(_REMOVED))}]")  # JSON escapes the others
_FORMULA = re.compile(r"\s*[=+\-@|%＝＋－＠]")  # what spreadsheets take for a formula, blanks before it included
_MARKUP = re.compile(r"([\\`\[\]<>|])")  # what Markdown makes links, HTML and cells of


def safe_text(value: object, limit: int | None = TEXT_CHARS) -> str:
    """`value` as one line of text that can do nothing: no control character, no direction mark, no lone surrogate.

    Tabs and line ends become spaces; more than `limit` characters (None: any number) are cut, with a mark.
    """
    kept = "".join(_safe(char) for char in str(value))
    if limit is not None and len(kept) > limit:
        return f"{kept[:limit]}… ({len(kept)} characters)"
    return kept


def first_of(names: Sequence[object], n: int = 10, separator: str = ", ") -> str:
    """The first `n` of many names, and how many more there are."""
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return separator.join(map(str, names[:n])) + more


def guarded(cell: object) -> object:
    """A cell of a CSV file: numbers as they are, text safe and never a formula (OWASP, CSV injection)."""
    if cell is None or isinstance(cell, (int, float)):
        return cell
    text = safe_text(cell, None)
    return "'" + text if _FORMULA.match(text) else text


def plain_markdown(value: object) -> str:
    """`value` as text that Markdown shows as it is: no link, no HTML, no end of a table's cell."""
    return _MARKUP.sub(r"\\\1", safe_text(value))


def inert_json(value: object, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """JSON, letters as they are; what could mislead a terminal or an eye is an escape, so nothing is lost."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=sort_keys)
    return _MISLEADING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _safe(char: str) -> str:
    if char in _LINE_ENDS:
        return " "
    category = unicodedata.category(char)
    if category == "Cs":
        return "\ufffd"  # cannot be written as UTF-8
    return "" if category == "Cc" or char in _REMOVED else char
