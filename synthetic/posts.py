"""Posts of the smoke shard: what they say, what their images show, and why the two together decide.

Post k of a split depends on (seed, split, k) alone. Posts come in blocks of BLOCK; a block is a fixed balanced design
under permutations drawn from (seed, split, block), so in whole blocks each name and each template occurs equally often
with each type. One of these permutations renames the types: whatever else a post says, each assignment of (distinct)
types to its names is equally likely, unless a noun decides one. That makes the ceilings exact.

Words of the smoke shard, and its secret: which kinds of drawn things stand for which entity type.

Sentences of the smoke shard. Slots: `{a}`, `{b}` names, `{thing}` something that is no entity, and noise.

A slot's words are a whole noun phrase (`the left Jordan`), which stands alone as a subject, an object or behind a
preposition, so that a constituency parser finds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from random import Random
from types import MappingProxyType
from typing import Literal, TypeVar

from schema.labels import DEFAULT_LABELS, to_tags
from schema.records import SPLITS, Entity, Span, Split
from synthetic.scenes import CUES, Wanted
from synthetic.shapes import KINDS

TYPES = DEFAULT_LABELS.types

# Each may be a person, a place, an organisation or a work. Train and dev use NAMES; test uses N_UNSEEN others instead
# of the last ones.
NAMES = (
    *("Jordan", "Phoenix", "Lincoln", "Madison", "Chelsea", "Austin", "Houston", "Jackson", "Hudson", "Florence"),
    *("Orlando", "Sydney", "Victoria", "Georgia", "Carolina", "Brooklyn", "Savannah", "Denver", "Hamilton"),
    *("Santa Clara", "Crystal Palace", "Saint James", "Green Bay", "Wellington", "Camden", "Kingston", "Mercedes"),
    *("Preston", "Aurora", "Silver Lake"),
)
UNSEEN = ("Dakota", "Chester", "Raleigh")  # one word each: where a name ends is never in doubt
TEST_NAMES = NAMES[: -len(UNSEEN)] + UNSEEN

# Before a name one of these decides its type, whatever the image shows.
NOUNS = MappingProxyType(
    {
        "PER": ("singer", "striker", "mayor", "painter"),
        "LOC": ("town", "island", "valley", "village"),
        "ORG": ("company", "bank", "charity", "airline"),
        "MISC": ("song", "film", "novel", "perfume"),
    }
)

# The four kinds that are left out here never stand for an entity.
KINDS_OF = MappingProxyType(
    {
        "PER": ("figure", "face", "crown"),
        "LOC": ("house", "tree", "mountain"),
        "ORG": ("flag", "shield", "gear"),
        "MISC": ("bell", "fish", "key"),
    }
)
TYPE_OF = MappingProxyType({kind: name for name, kinds in KINDS_OF.items() for kind in kinds})


def kinds_not_of(name: str) -> tuple[str, ...]:
    """Kinds that do not stand for this type, those that stand for none included."""
    return tuple(kind for kind in KINDS if TYPE_OF.get(kind) != name)


THINGS = ("poster", "sticker", "sign", "shape", "object", "symbol", "drawing", "thing")  # of no kind in particular
DETERMINERS = ("the", "the", "the", "our")
USERS = ("anna_k", "BigMike", "dailypix", "the_real_tom", "lou77", "newsdesk")
TAGS = ("weekend", "photo", "nofilter", "monday", "fun", "news")


@dataclass(frozen=True)
class Template:
    """Words with slots, parted by blanks."""

    text: str

    @cached_property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.text.split())

    @property
    def n_names(self) -> int:
        return ("{a}" in self.parts) + ("{b}" in self.parts)

    @property
    def has_thing(self) -> bool:
        return "{thing}" in self.parts


SINGLES = tuple(
    Template(text)
    for text in (
        "{a} was waiting behind {thing} again .",
        "look at {a} ! {tag}",
        "RT {user} : {thing} belongs to {a}",
        "I could not see {a} because of {thing} {url}",
        "nobody at home remembers {a} anymore .",
    )
)
PAIRS = tuple(
    Template(text)
    for text in (
        "{a} just met {b} again .",
        "we saw {a} before {b} arrived",
        "RT {user} : {a} talks about {b}",
        "now {a} belongs to {b} {tag}",
        "{a} has not forgotten {b} .",
        "my sister says that {a} found {b}",
        "{a} is standing beside {b} {url}",
        "{a} will soon replace {b} {tag}",
        "does {a} live far from {b} ?",
        "{a} looks better than {b} lol",
    )
)

VERSION = "2"  # of the design; part of every seed
HALF = 40  # posts of a block with one name; as many have two
BLOCK = 2 * HALF
SPLIT_STRIDE = 1_000_000  # numbers of a split's posts lie this far from the next split's

Image = Literal["ok", "missing", "broken"]
Clue = Literal["image", "both", "text", "misled"]  # what tells a name's type; misled: text, and the image lies
Item = TypeVar("Item")

# How many posts of a block are told how, name by name, and what becomes of their image.
_SINGLE_PLANS: tuple[tuple[int, tuple[Clue, ...], Image], ...] = (
    (24, ("image",), "ok"),
    (6, ("both",), "ok"),
    (6, ("misled",), "ok"),
    (2, ("image",), "missing"),
    (2, ("image",), "broken"),
)
_PAIR_PLANS: tuple[tuple[int, tuple[Clue, ...], Image], ...] = (
    (22, ("image", "image"), "ok"),
    (4, ("both", "image"), "ok"),
    (4, ("image", "both"), "ok"),
    (4, ("misled", "image"), "ok"),
    (4, ("image", "misled"), "ok"),
    (1, ("image", "image"), "missing"),
    (1, ("image", "image"), "broken"),
)


@dataclass(frozen=True, slots=True)
class Mention:
    """A name in a post: its words, and the thing that the image shows (or would show) at its cue."""

    name: str
    type: str
    noun: str  # "" unless it decides the type
    cue: str
    kind: str
    span: Span
    phrase: Span  # the noun phrase around it, with its cue


@dataclass(frozen=True, slots=True)
class Draft:
    """A post to be drawn. `wanted` are the things of its scene: one a mention, in order, then what is no entity."""

    id: str
    number: int  # of its scene's generator
    split: Split
    words: tuple[str, ...]
    mentions: tuple[Mention, ...]
    thing_span: Span | None  # words of the thing that follows the mentions in `wanted`
    wanted: tuple[Wanted, ...]
    image: Image

    @property
    def tags(self) -> list[str]:
        return to_tags(len(self.words), [Entity(mention.span, mention.type) for mention in self.mentions])


@dataclass(frozen=True, slots=True)
class _Cell:
    template: Template
    types: tuple[str, ...]
    names: tuple[str, ...]
    clues: tuple[Clue, ...]
    image: Image


def draft(seed: int, split: Split, k: int) -> Draft:
    """Post k of a split."""
    cell = _block(seed, split, k // BLOCK)[k % BLOCK]
    rng = Random(f"fmit smoke {VERSION} post {seed} {split} {k}")
    cues = rng.sample(CUES, len(cell.names) + cell.template.has_thing)
    nouns = [rng.choice(NOUNS[t]) if clue != "image" else "" for t, clue in zip(cell.types, cell.clues, strict=True)]
    kinds = [_kind(rng, t, clue) for t, clue in zip(cell.types, cell.clues, strict=True)]
    phrases = [
        f"{rng.choice(DETERMINERS)} {cue} {noun} {name}".split()
        for cue, noun, name in zip(cues, nouns, cell.names, strict=False)
    ]
    if cell.template.has_thing:
        phrases.append(f"{rng.choice(DETERMINERS)} {cues[-1]} {rng.choice(THINGS)}".split())
    words, spans = _say(rng, cell.template, phrases)
    mentions = tuple(
        Mention(name, t, noun, cue, kind, Span(span.end - len(name.split()), span.end), span)
        for name, t, noun, cue, kind, span in zip(cell.names, cell.types, nouns, cues, kinds, spans, strict=False)
    )
    number = SPLITS.index(split) * SPLIT_STRIDE + k
    wanted = [Wanted(kind, cue) for kind, cue in zip(kinds, cues, strict=False)]
    wanted += _no_entities(rng, cell, cues)
    thing = spans[-1] if cell.template.has_thing else None
    return Draft(f"{split}-{k:05d}", number, split, words, mentions, thing, tuple(wanted), cell.image)


def _kind(rng: Random, name: str, clue: Clue) -> str:
    """What the image shows for a name of this type."""
    return rng.choice([k for k in TYPE_OF if TYPE_OF[k] != name] if clue == "misled" else KINDS_OF[name])


def _no_entities(rng: Random, cell: _Cell, cues: list[str]) -> list[Wanted]:
    """The thing that the text speaks of, of a kind that would mislead; at times one that it does not mention."""
    things = [Wanted(rng.choice(kinds_not_of(cell.types[0])), cues[-1])] if cell.template.has_thing else []
    more = rng.random() < (0.5 if len(cell.names) == 1 else 0.25)
    return things + ([Wanted(rng.choice(kinds_not_of(cell.types[0])))] if more else [])


def _say(rng: Random, template: Template, phrases: list[list[str]]) -> tuple[tuple[str, ...], list[Span]]:
    """Words of a template, and the spans of its phrases in the order a, b, thing (of those it has)."""
    slots: dict[str, list[str]] = dict(
        zip([slot for slot in ("{a}", "{b}", "{thing}") if slot in template.parts], phrases, strict=True)
    )
    noise = {
        "{user}": f"@{rng.choice(USERS)}",
        "{tag}": f"#{rng.choice(TAGS)}",
        "{url}": "http://t.co/" + "".join(rng.choices("abcdefghkmnpqrstuvwxyzABCDEFGHKMNPQRSTUVWXYZ23456789", k=10)),
    }
    words: list[str] = []
    spans: dict[str, Span] = {}
    for part in template.parts:
        said = slots.get(part, [noise.get(part, part)])
        if part in slots:
            spans[part] = Span(len(words), len(words) + len(said))
        words += said
    words[0] = words[0][0].upper() + words[0][1:]
    return tuple(words), [spans[slot] for slot in slots]


@lru_cache(maxsize=64)
def _block(seed: int, split: Split, index: int) -> tuple[_Cell, ...]:
    rng = Random(f"fmit smoke {VERSION} block {seed} {split} {index}")
    types, turn = rng.sample(TYPES, len(TYPES)), rng.randrange(3)
    singles = [(SINGLES[s * len(SINGLES) // HALF], (types[s % 4],)) for s in range(HALF)]
    pairs = [
        (PAIRS[s * len(PAIRS) // HALF], (types[s % 4], types[(s + 1 + (s // 4 + turn) % 3) % 4])) for s in range(HALF)
    ]
    said = [*singles, *pairs]
    names = _names(rng, split, [kinds for _, kinds in said])
    plans = [*_shuffled(rng, _SINGLE_PLANS), *_shuffled(rng, _PAIR_PLANS)]
    cells = [_Cell(*one, some, *plan) for one, some, plan in zip(said, names, plans, strict=True)]
    return tuple(rng.sample(cells, BLOCK))


def _shuffled(
    rng: Random, plans: tuple[tuple[int, tuple[Clue, ...], Image], ...]
) -> list[tuple[tuple[Clue, ...], Image]]:
    listed = [(clues, image) for count, clues, image in plans for _ in range(count)]
    return rng.sample(listed, HALF)


def _names(rng: Random, split: Split, types: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Names for each post of a block: with each type every name occurs once, and no post has one twice."""
    known = TEST_NAMES if split == "test" else NAMES
    while True:
        queues = {name: iter(rng.sample(known, len(known))) for name in TYPES}
        drawn = [tuple(next(queues[name]) for name in some) for some in types]
        if all(len(set(some)) == len(some) for some in drawn):
            return drawn
