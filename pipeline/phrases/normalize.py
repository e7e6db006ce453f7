"""Normalized words: what a parser reads of a post. The tagger's own words never change.

Parsers were trained on edited text; a retweet header, a URL or a row of hashtags makes them invent structure. Such
words are dropped, others are rewritten (one word stays one word), the post is cut into sentences, and each word keeps
the index of the post's word.
"""

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

VERSION = "1"  # raise it when the normalized words of a post change
MAX_CHARACTERS = 60  # of a word: a parser needs no more
URL = re.compile(r"(?:https?:|www\.|pic\.twitter\.com|t\.co/)", re.IGNORECASE)
MARKED = re.compile(r"[@#]\w.*", re.DOTALL)
HEADER = frozenset({"RT", "MT", "via", ":", "_", "-", "|", "&", "."})  # what surrounds @names before a text
END = re.compile(r"[.!?…]+")
CLOSING = frozenset({'"', "'", ")", "]", "”", "’", "''"})
_LEADING = "a an the of for at in on to with by from and or & my your his her our their this that is are"
LEADING = frozenset(_LEADING.split())
_ABBREVIATIONS = """
    mr mrs ms dr st sr jr prof rev gen gov sen rep lt col sgt capt vs v no nos vol ft mt inc ltd co corp dept est
    ave blvd rd jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun etc feat al
"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})  # Unicode categories
EMOJI = frozenset({"So", "Sk", "Mn", "Me"})  # categories of their characters, beside invisible ones


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words for the parser; for each of them the index of the post's word, and whether it is an @name."""

    words: tuple[str, ...]
    index: tuple[int, ...]
    is_name: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class _Word:
    index: int  # in the post
    text: str
    mark: str  # "@", "#" or ""


def sentences(post: Sequence[str]) -> list[Sentence]:
    """The normalized sentences of a post; none where it consists of headers, URLs, emoji and punctuation."""
    words = _body(_visible(post))
    normalized, start = [], 0
    for end in range(1, len(words) + 1):
        if not _is_cut(words, end):
            continue
        part, start = words[start:end], end
        if any(character.isalnum() for word in part for character in word.text):
            texts, index, is_name = zip(*((word.text, word.index, word.mark == "@") for word in part), strict=True)
            normalized.append(Sentence(texts, index, is_name))
    return normalized


def _visible(post: Sequence[str]) -> list[_Word]:
    """Words that can be seen, without URLs; `#Word` and `@name` without their mark, which may be its own token."""
    visible: list[_Word] = []
    mark, in_entity = "", False
    for index, word in enumerate(post):
        text = _plain(word)
        if not text or URL.match(text) or (in_entity and text == ";"):  # `&amp;` in two tokens
            continue
        in_entity = word.startswith("&") and word != "&"
        if text in ("@", "#"):
            mark = text
            continue
        if MARKED.fullmatch(text):
            mark, text = text[0], text[1:]
        visible.append(_Word(index, text.rstrip(":") if mark == "@" else text, mark))
        mark = ""
    return visible


def _plain(word: str) -> str:
    """The word without invisible characters, cut to MAX_CHARACTERS; "" for emoji."""
    text = "".join(
        character
        for character in html.unescape(word[: 4 * MAX_CHARACTERS])
        if unicodedata.category(character) not in INVISIBLE and not "\ufe00" <= character <= "\ufe0f"  # variants
    )[:MAX_CHARACTERS]
    return "" if all(unicodedata.category(character) in EMOJI for character in text) else text


def _body(words: Sequence[_Word]) -> list[_Word]:
    """The text between the @names to which it is addressed; a name within it (`with @name`) stays."""
    first, last = 0, len(words)
    while first < last and (words[first].mark == "@" or words[first].text in HEADER):
        first += 1
    while last > first + 1 and words[last - 1].mark == "@" and words[last - 2].text.lower() not in LEADING:
        last -= 1
    return [word for word in words[first:last] if word.text != "RT"]


def _is_cut(words: Sequence[_Word], at: int) -> bool:
    """Whether a sentence ends before a word: after final punctuation, and around hashtags outside the text."""
    if at == len(words) or _is_loose(words, at) or _is_loose(words, at - 1):
        return True
    return _ends_sentence(words, at - 1) and not END.fullmatch(words[at].text) and words[at].text not in CLOSING


def _is_loose(words: Sequence[_Word], at: int) -> bool:
    """Whether a word is a hashtag in a row of them or at the end, rather than in the text (`for the #Word`)."""
    before, after = (words[side] if 0 <= side < len(words) else None for side in (at - 1, at + 1))
    if words[at].mark != "#" or (before is not None and before.text.lower() in LEADING):
        return False
    in_row = any(side is not None and side.mark == "#" for side in (before, after))
    is_last = after is None or END.fullmatch(after.text) is not None
    return in_row or (is_last and before is not None)


def _ends_sentence(words: Sequence[_Word], at: int) -> bool:
    """Whether a sentence ends after this word: at a mark (or what closes after it) that is not an abbreviation's."""
    while at > 0 and words[at].text in CLOSING:
        at -= 1
    if not END.fullmatch(words[at].text):
        return False
    before = words[at - 1].text.lower() if at else ""
    return words[at].text != "." or not (before in ABBREVIATIONS or (len(before) == 1 and before.isalpha()))
