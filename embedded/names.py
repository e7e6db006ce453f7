"""Words of the smoke shard, and its secret: which kinds of drawn things stand for which entity type."""

from __future__ import annotations

from types import MappingProxyType

from embedded.shapes import KINDS
from schema.labels import DEFAULT_LABELS

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

# Before a name one of these decides its type, whatever the picture shows.
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
