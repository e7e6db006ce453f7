"""The parse view: what a parser sees of a post. The tagger's own words never change.

Parsers were trained on edited text; a retweet header, a URL or a row of hashtags makes them invent structure. The view
drops such words, rewrites others in place (one word stays one word), parts the post into sentences, and remembers
which word of the post each of its words is.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

VERSION = "1"  # raise it when the view of a post changes
MOST_CHARACTERS = 60  # of a word: parsers need not see the rest
URL = re.compile(r"(?:https?:|www\.|pic\.twitter\.com|t\.co/)", re.IGNORECASE)
MARKED = re.compile(r"[@#]\w.*", re.DOTALL)
HEADER = frozenset({"RT", "MT", "via", ":", "_", "-", "|", "&", "."})  # what surrounds names in front of a text
END = re.compile(r"[.!?…]+")
CLOSING = frozenset({'"', "'", ")", "]", "”", "’", "''"})
_LEADING = """
    a an the of for at in on to with by from and or & my your his her our their this that is are
"""
LEADING = frozenset(_LEADING.split())
_ABBREVIATIONS = """
    mr mrs ms dr st sr jr prof rev gen gov sen rep lt col sgt capt vs v no nos vol ft mt inc ltd co corp dept est
    ave blvd rd jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun etc feat al
"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})  # Unicode categories a parser should not see
IMAGES = frozenset({"So", "Sk", "Mn", "Me"})  # those that emoji are made of, beside invisible ones


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words for the parser, the post's word that each of them is, and whether that is an @name."""

    words: tuple[str, ...]
    index: tuple[int, ...]
    is_name: tuple[bool, ...]


def sentences(post: Sequence[str]) -> list[Sentence]:
    """The view of a post: its sentences in order; empty where it holds nothing but headers, URLs, emoji and marks."""
    kept = _body(_marked(post))
    found = []
    for start, end in _ranges(kept):
        part = kept[start:end]
        if any(character.isalnum() for word in part for character in word.text):
            words, index, marks = zip(*((word.text, word.index, word.mark == "@") for word in part), strict=True)
            found.append(Sentence(words, index, marks))
    return found


@dataclass(frozen=True, slots=True)
class _Word:
    index: int  # in the post
    text: str
    mark: str  # "@", "#" or ""


def _marked(words: Sequence[str]) -> list[_Word]:
    """Words that can be seen, URLs left out, with their mark taken off: `#Word`, and `#` `Word` in two tokens."""
    found: list[_Word] = []
    mark, entity = "", False
    for index, word in enumerate(words):
        text = _plain(word)
        if not text or URL.match(text) or (entity and text == ";"):  # `&amp;` in two tokens
            continue
        entity = word.startswith("&") and word != "&"
        if text in ("@", "#"):
            mark = text
            continue
        if MARKED.fullmatch(text):
            mark, text = text[0], text[1:]
        found.append(_Word(index, text.rstrip(":") if mark == "@" else text, mark))
        mark = ""
    return found


def _plain(word: str) -> str:
    """The word without what cannot be seen, cut to MOST_CHARACTERS; "" for emoji and other images."""
    shown = html.unescape(word[: 4 * MOST_CHARACTERS])
    shown = "".join(one for one in shown if not _is_hidden(one))[:MOST_CHARACTERS]
    return "" if all(unicodedata.category(one) in IMAGES for one in shown) else shown


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in INVISIBLE or "\ufe00" <= character <= "\ufe0f"  # variation selectors


def _body(seen: Sequence[_Word]) -> list[_Word]:
    """The text between the @names that it is addressed to; a name within it (`with @name`) stays as a name."""
    first, last = 0, len(seen)
    while first < last and (seen[first].mark == "@" or seen[first].text in HEADER):
        first += 1
    while last > first + 1 and seen[last - 1].mark == "@" and seen[last - 2].text.lower() not in LEADING:
        last -= 1
    return [word for word in seen[first:last] if word.text != "RT"]


def _ranges(words: Sequence[_Word]) -> Iterator[tuple[int, int]]:
    """Where sentences lie: after final punctuation, and each hashtag that hangs on no word on its own."""
    start = 0
    for at, word in enumerate(words):
        loose = word.mark == "#" and _is_loose(words, at)
        if at > start and (loose or (words[at - 1].mark == "#" and _is_loose(words, at - 1))):
            yield start, at
            start = at
        after = words[at + 1].text if at + 1 < len(words) else ""
        if _ends(words, at) and not END.fullmatch(after) and after not in CLOSING:
            yield start, at + 1
            start = at + 1
    if start < len(words):
        yield start, len(words)


def _is_loose(words: Sequence[_Word], at: int) -> bool:
    """Whether a hashtag stands in a row of them, or behind the text rather than in it (`for the #Word` is in it)."""
    before, after = (words[side] if 0 <= side < len(words) else None for side in (at - 1, at + 1))
    if before is not None and before.text.lower() in LEADING:
        return False
    in_row = any(side is not None and side.mark == "#" for side in (before, after))
    is_last = after is None or END.fullmatch(after.text) is not None
    return in_row or (is_last and before is not None)


def _ends(words: Sequence[_Word], at: int) -> bool:
    """Whether a sentence ends behind this word: a mark (or what closes after one), not that of an abbreviation."""
    while at > 0 and words[at].text in CLOSING:
        at -= 1
    if not END.fullmatch(words[at].text):
        return False
    before = words[at - 1].text.lower() if at else ""
    return words[at].text != "." or not (before in ABBREVIATIONS or (len(before) == 1 and before.isalpha()))
