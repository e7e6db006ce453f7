import hashlib
from collections import Counter
from itertools import permutations

import pytest

from synthetic import posts
from synthetic.posts import BLOCK, KINDS_OF, NAMES, NOUNS, PAIRS, SINGLES, TEST_NAMES, TYPE_OF, TYPES, draft
from synthetic.scenes import CUES

SPLITS = ("train", "dev", "test")


def drafts(split, n_blocks=1, seed=0):
    return [draft(seed, split, k) for k in range(n_blocks * BLOCK)]


def cells(split, n_blocks=1, seed=0):
    return [cell for index in range(n_blocks) for cell in posts._block(seed, split, index)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("seed", [0, 7])
def test_each_name_occurs_equally_often_with_each_type(split, seed):
    found = Counter((m.name, m.type) for post in drafts(split, 2, seed) for m in post.mentions)
    names = TEST_NAMES if split == "test" else NAMES
    assert found == {(name, kind): 2 for name in names for kind in TYPES}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("seed", [0, 7])
def test_each_template_occurs_equally_often_with_each_type(split, seed):
    found = Counter(
        (cell.template, slot, kind) for cell in cells(split, 1, seed) for slot, kind in enumerate(cell.types)
    )
    expected = {(template, 0, kind): 2 for template in SINGLES for kind in TYPES}
    assert found == expected | {(template, slot, kind): 1 for template in PAIRS for slot in (0, 1) for kind in TYPES}


@pytest.mark.parametrize("split", SPLITS)
def test_half_the_posts_hold_two_names_of_different_types(split):
    found = drafts(split)
    assert Counter(len(post.mentions) for post in found) == {1: 40, 2: 40}
    for post in found:
        assert len({m.type for m in post.mentions}) == len({m.name for m in post.mentions}) == len(post.mentions)


@pytest.mark.parametrize("split", SPLITS)
def test_words_spans_and_tags_fit(split):
    for post in drafts(split, 2):
        assert 6 <= len(post.words) <= 16
        for m in post.mentions:
            assert post.words[m.span.start : m.span.end] == tuple(m.name.split())
            said = [word.lower() for word in post.words[m.phrase.start : m.phrase.end]]
            assert said[1:] == [m.cue, *([m.noun] if m.noun else []), *m.name.lower().split()]
            assert post.tags[m.span.start] == f"B-{m.type}"
        assert sum(tag.startswith("B-") for tag in post.tags) == len(post.mentions)
        if post.object_span:
            assert post.words[post.object_span.start + 1] == post.objects[len(post.mentions)].cue


def test_what_tells_a_type_is_told_by_text_or_image_in_fixed_numbers():
    clues = Counter()
    for post in drafts("train"):
        for m in post.mentions:
            assert m.noun == "" or m.noun in NOUNS[m.type]
            agrees = m.kind in KINDS_OF[m.type]
            assert agrees or m.noun  # an image lies only where text decides
            clues[("told" if m.noun else "seen") if agrees else "misled"] += 1
    assert clues == {"seen": 92, "told": 14, "misled": 14}
    assert Counter(post.image for post in drafts("train")) == {"ok": 74, "missing": 3, "broken": 3}
    assert all(not m.noun for post in drafts("train") if post.image != "ok" for m in post.mentions)


def test_scenes_show_the_names_first_and_then_what_is_no_entity():
    unspoken = 0
    for post in drafts("test", 2):
        assert [(want.kind, want.cue) for want in post.objects[: len(post.mentions)]] == [
            (m.kind, m.cue) for m in post.mentions
        ]
        rest = post.objects[len(post.mentions) :]
        assert len(rest) <= 2
        assert all(TYPE_OF.get(want.kind) != post.mentions[0].type for want in rest)
        unspoken += bool(rest) and rest[-1].cue is None
    assert unspoken > 30


def test_a_post_depends_on_seed_split_and_k_alone():
    late = draft(3, "dev", 95)
    posts._block.cache_clear()
    assert draft(3, "dev", 95) == late
    assert draft(4, "dev", 95).words != late.words
    assert draft(3, "train", 95).words != late.words
    numbers = {draft(0, split, k).number for split in SPLITS for k in range(BLOCK)}
    assert len(numbers) == 3 * BLOCK


def test_posts_are_those_of_this_version():
    """Change posts.VERSION with this digest, never the digest alone."""
    text = "\n".join(
        f"{post.id} {' '.join(post.words)} {post.objects}".replace("ObjectSpec", "Wanted")
        for split in SPLITS
        for post in drafts(split)
    )
    assert (posts.VERSION, hashlib.sha256(text.encode()).hexdigest()[:16]) == ("2", "76e672c75967a8c9")


def test_nothing_but_a_noun_tells_a_type():
    """Frequencies of types for everything else that a post says, over 60 seeds, lie within chance."""
    seen: dict[tuple, Counter] = {}
    for seed in range(60):
        for k in range(BLOCK):
            post = draft(seed, "train", k)
            image = post.image
            for slot, m in enumerate(post.mentions):
                before = post.words[m.phrase.start].lower()
                facts = [("cue", m.cue), ("k", k), ("slot", slot, len(post.mentions)), ("determiner", before)]
                facts += [("image", image), ("told", bool(m.noun)), ("length", len(post.words))]
                facts += [("last", post.words[-1])] if len(post.words[-1]) < 12 else []
                for fact in facts:
                    seen.setdefault(fact, Counter())[m.type] += 1
    for fact, counts in seen.items():
        n = counts.total()
        for kind in TYPES:
            assert abs(counts[kind] - n / 4) <= 5 * (n * 3 / 16) ** 0.5, (fact, counts)


def test_pairs_of_types_are_equally_likely_for_a_given_post():
    seen = Counter()
    for seed in range(600):
        for k in range(8):
            if len(kinds := tuple(m.type for m in draft(seed, "train", k).mentions)) == 2:
                seen[kinds] += 1
    each = seen.total() / 12
    assert set(seen) == set(permutations(TYPES, 2))
    assert all(abs(count - each) < 5 * each**0.5 for count in seen.values())


def test_every_cue_and_kind_is_used():
    found = [m for post in drafts("train", 6) for m in post.mentions]
    assert set(Counter(m.cue for m in found)) == set(CUES)
    kinds = Counter(m.kind for m in found if not m.noun)
    assert set(kinds) == set(TYPE_OF)
    assert min(kinds.values()) >= 30  # enough to learn from
