"""Posts of the synthetic dataset: their text and what their images show; a reader needs both.

Post k of a split depends on (seed, split, k) only. Posts come in blocks of BLOCK; a block is a fixed balanced design
under permutations drawn from (seed, split, block), so in whole blocks each name and each template occurs equally often
with each type. One of these permutations renames the types: whatever else a post says, each assignment of (distinct)
types to its names is equally likely, unless a noun decides one. So the highest possible scores are known exactly.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Literal, NamedTuple

import yaml

from schema.labels import DEFAULT_LABELS, to_tags
from schema.records import SPLITS, Entity, Span, Split
from synthetic.scenes import CUES, ObjectSpec
from synthetic.shapes import KINDS

TYPES = DEFAULT_LABELS.types

# The comments in words.yaml describe each list.
_WORDS = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))
NAMES, UNSEEN = _WORDS["names"], _WORDS["unseen"]
TEST_NAMES = NAMES[: -len(UNSEEN)] + UNSEEN
NOUNS, KINDS_OF, OBJECTS = _WORDS["nouns"], _WORDS["kinds"], _WORDS["objects"]
TYPE_OF = {kind: name for name, kinds in KINDS_OF.items() for kind in kinds}
SINGLES, PAIRS = _WORDS["singles"], _WORDS["pairs"]
DETERMINERS, USERS, TAGS = _WORDS["determiners"], _WORDS["users"], _WORDS["tags"]

VERSION = "2"  # of the design; part of every seed
HALF = 40  # posts of a block with one name; the other half has two
BLOCK = 2 * HALF
SPLIT_STRIDE = 1_000_000  # between the numbers of one split's posts and the next split's

Image = Literal["ok", "missing", "broken"]
Clue = Literal["image", "both", "misled"]  # what shows a name's type; misled: the text does, the image shows another


class Mention(NamedTuple):
    """A name in a post: its words, and the object at its cue in the image."""

    name: str
    type: str
    noun: str  # "" unless it decides the type
    cue: str
    kind: str
    span: Span
    phrase: Span  # the noun phrase with determiner and cue


@dataclass(frozen=True, slots=True)
class Draft:
    """A post to be drawn. `objects` are those of its scene: one for each mention, in order, then others."""

    id: str
    number: int  # of the random generator of its scene
    split: Split
    words: tuple[str, ...]
    mentions: tuple[Mention, ...]
    object_span: Span | None  # words of the first object after the mentions in `objects`
    objects: tuple[ObjectSpec, ...]
    image: Image

    @property
    def tags(self) -> list[str]:
        return to_tags(len(self.words), [Entity(mention.span, mention.type) for mention in self.mentions])


class _Cell(NamedTuple):
    """The design of one post of a block."""

    template: str
    types: tuple[str, ...]
    names: tuple[str, ...]
    clues: tuple[Clue, ...]
    image: Image


def draft(seed: int, split: Split, k: int) -> Draft:
    cell = _block(seed, split, k // BLOCK)[k % BLOCK]
    has_object = "{object}" in cell.template
    rng = Random(f"fmit smoke {VERSION} post {seed} {split} {k}")
    cues = rng.sample(CUES, len(cell.names) + has_object)
    clues = list(zip(cell.types, cell.clues, strict=True))
    nouns = [rng.choice(NOUNS[name]) if clue != "image" else "" for name, clue in clues]
    kinds = [
        rng.choice([kind for kind in TYPE_OF if TYPE_OF[kind] != name] if clue == "misled" else KINDS_OF[name])
        for name, clue in clues
    ]
    phrases = [
        f"{rng.choice(DETERMINERS)} {cue} {noun} {name}".split()
        for cue, noun, name in zip(cues, nouns, cell.names, strict=False)
    ]
    if has_object:
        phrases.append(f"{rng.choice(DETERMINERS)} {cues[-1]} {rng.choice(OBJECTS)}".split())
    words, spans = _fill(rng, cell.template, phrases)
    mentions = tuple(
        Mention(name, type_, noun, cue, kind, Span(span.end - len(name.split()), span.end), span)
        for name, type_, noun, cue, kind, span in zip(cell.names, cell.types, nouns, cues, kinds, spans, strict=False)
    )
    objects = [ObjectSpec(kind, cue) for kind, cue in zip(kinds, cues, strict=False)]
    misleading = [kind for kind in KINDS if TYPE_OF.get(kind) != cell.types[0]]
    if has_object:
        objects.append(ObjectSpec(rng.choice(misleading), cues[-1]))
    if rng.random() < (0.5 if len(cell.names) == 1 else 0.25):
        objects.append(ObjectSpec(rng.choice(misleading)))  # which the text does not mention
    number = SPLITS.index(split) * SPLIT_STRIDE + k
    object_span = spans[-1] if has_object else None
    return Draft(f"{split}-{k:05d}", number, split, words, mentions, object_span, tuple(objects), cell.image)


def _fill(rng: Random, template: str, phrases: list[list[str]]) -> tuple[tuple[str, ...], list[Span]]:
    """Words of a template, and the spans of its phrases in the order a, b, object (as far as it has them)."""
    parts = template.split()
    names: list[str] = [slot for slot in ("{a}", "{b}", "{object}") if slot in parts]
    slots = dict(zip(names, phrases, strict=True))
    noise = {
        "{user}": f"@{rng.choice(USERS)}",
        "{tag}": f"#{rng.choice(TAGS)}",
        "{url}": "http://t.co/" + "".join(rng.choices("abcdefghkmnpqrstuvwxyzABCDEFGHKMNPQRSTUVWXYZ23456789", k=10)),
    }
    words: list[str] = []
    spans: dict[str, Span] = {}
    for part in parts:
        filled = slots.get(part, [noise.get(part, part)])
        if part in slots:
            spans[part] = Span(len(words), len(words) + len(filled))
        words += filled
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
    texts = [*singles, *pairs]
    names = _names(rng, split, [types for _, types in texts])
    plans = []
    for counted in (_WORDS["single_plans"], _WORDS["pair_plans"]):
        plans += rng.sample([(tuple(clues), image) for count, clues, image in counted for _ in range(count)], HALF)
    cells = [_Cell(*text, post_names, *plan) for text, post_names, plan in zip(texts, names, plans, strict=True)]
    return tuple(rng.sample(cells, BLOCK))


def _names(rng: Random, split: Split, types: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Names for each post of a block: every name occurs once with each type, and no post has a name twice."""
    names = TEST_NAMES if split == "test" else NAMES
    while True:
        queues = {name: iter(rng.sample(names, len(names))) for name in TYPES}
        drawn = [tuple(next(queues[name]) for name in post_types) for post_types in types]
        if all(len(set(post_names)) == len(post_names) for post_names in drawn):
            return drawn
