from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nervaluate import Evaluator

from report.errors import KINDS, SCHEMES, count, outcomes
from schema.records import Entity, Span

TYPES = ("PER", "LOC", "ORG")


@st.composite
def posts(draw):
    """Entities that do not overlap each other, as tags give them."""
    found, at = [], 0
    for _ in range(draw(st.integers(0, 5))):
        start = at + draw(st.integers(0, 2))
        end = start + draw(st.integers(1, 3))
        found.append(Entity(Span(start, end), draw(st.sampled_from(TYPES))))
        at = end
    return found


def kinds_of(gold, predicted):
    return [(one.kind, one.gold, one.predicted) for one in outcomes(gold, predicted)]


def entity(start, end, name):
    return Entity(Span(start, end), name)


def test_one_of_each_kind():
    gold = [entity(0, 2, "PER"), entity(3, 4, "LOC"), entity(5, 7, "ORG"), entity(8, 10, "ORG"), entity(11, 12, "PER")]
    predicted = [
        entity(0, 2, "PER"),
        entity(3, 4, "ORG"),
        entity(6, 7, "ORG"),
        entity(8, 9, "LOC"),
        entity(14, 15, "LOC"),
    ]
    assert kinds_of(gold, predicted) == [
        ("correct", 0, 0), ("type", 1, 1), ("boundary", 2, 2), ("both", 3, 3), ("missed", 4, None),
        ("spurious", None, 4),
    ]  # fmt: skip


def test_the_same_words_are_paired_before_overlapping_ones():
    gold = [entity(0, 4, "PER"), entity(4, 6, "LOC")]
    assert kinds_of(gold, [entity(1, 2, "PER"), entity(2, 4, "PER"), entity(4, 6, "LOC")]) == [
        ("boundary", 0, 0), ("spurious", None, 1), ("correct", 1, 2),
    ]  # fmt: skip
    assert kinds_of([entity(0, 3, "PER"), entity(1, 3, "LOC")], [entity(1, 3, "LOC")]) == [
        ("missed", 0, None), ("correct", 1, 0),
    ]  # fmt: skip
    assert kinds_of([], []) == []


@given(posts(), posts())
def test_every_entity_is_in_exactly_one_outcome(gold, predicted):
    found = outcomes(gold, predicted)
    assert sorted(one.gold for one in found if one.gold is not None) == list(range(len(gold)))
    assert sorted(one.predicted for one in found if one.predicted is not None) == list(range(len(predicted)))
    right = sum(one.kind == "correct" for one in found)
    assert right == len(set(gold) & set(predicted))  # what strict scores count


@pytest.mark.parametrize("scheme", SCHEMES)
@given(gold=posts(), predicted=posts())
def test_classes_are_those_of_nervaluate(scheme, gold, predicted):
    assume(gold and predicted)  # its evaluator does not take an empty document
    if scheme == "ent_type":
        assume(all(sum(one.span.overlaps(other.span) for other in gold) < 2 for one in predicted))
    theirs = Evaluator([as_dicts(gold)], [as_dicts(predicted)], tags=list(TYPES), loader="dict").evaluate()
    ours = Counter(KINDS[one.kind].classes.split()[SCHEMES.index(scheme)] for one in outcomes(gold, predicted))
    overall = theirs["overall"][scheme]
    for name in ("correct", "incorrect", "partial", "missed", "spurious"):
        assert ours[name] == getattr(overall, name), name


def as_dicts(entities):
    return [{"label": one.type, "start": one.span.start, "end": one.span.end - 1} for one in entities]


def test_counts_by_kind_and_by_pair_of_types():
    gold, predicted = [entity(0, 1, "PER"), entity(2, 3, "LOC")], [entity(0, 1, "ORG"), entity(5, 6, "LOC")]
    kinds, confusion = count([(gold, predicted), (gold, gold)])
    assert kinds == {
        ("PER", "type"): 1, ("LOC", "missed"): 1, ("LOC", "spurious"): 1, ("PER", "correct"): 1, ("LOC", "correct"): 1,
    }  # fmt: skip
    assert confusion == {("PER", "ORG"): 1, ("LOC", ""): 1, ("", "LOC"): 1, ("PER", "PER"): 1, ("LOC", "LOC"): 1}


def test_every_kind_has_its_texts():
    assert all(text.title and text.meaning for text in KINDS.values())
    assert all(len(text.classes.split()) == len(SCHEMES) for text in KINDS.values())
