import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

from schema.errors import DataError
from schema.labels import DEFAULT_LABELS, LabelSet, ebd_tags, entities, orphans, to_iob2, to_tags
from schema.records import Entity, Span

tags = st.lists(st.sampled_from(DEFAULT_LABELS.tags), min_size=1, max_size=12)


def test_tags_and_general_words_follow_the_order_of_the_labels():
    labels = LabelSet({"B": "bird", "A": "ant"}, {})
    assert labels.tags == ("O", "B-B", "I-B", "B-A", "I-A")
    assert labels.general_words == ("bird", "ant")
    assert [labels.tag_ids[tag] for tag in labels.tags] == [0, 1, 2, 3, 4]


def test_a_label_set_survives_json_and_pickle():
    assert LabelSet.from_json(DEFAULT_LABELS.to_json()) == DEFAULT_LABELS
    assert pickle.loads(pickle.dumps(DEFAULT_LABELS)) == DEFAULT_LABELS


def test_aliases_and_unknown_labels():
    assert DEFAULT_LABELS.canonical("I-OTHER") == "I-MISC"
    with pytest.raises(DataError, match=r"unknown label 'B-FOOD'.*PER, LOC, ORG, MISC.*add the type to source.labels"):
        DEFAULT_LABELS.canonical("B-FOOD")
    with pytest.raises(
        DataError, match="label 'X-PER' has the prefix 'X', which iob2 does not have; correct the label"
    ):
        DEFAULT_LABELS.canonical("X-PER")
    with pytest.raises(DataError, match="alias OTHER names a type that is not in labels"):
        LabelSet({"PER": "person"}, {"OTHER": "MISC"})


@given(tags)
def test_strict_entities_are_those_of_seqeval_strict(tags):
    oracle = {Entity(Span(e.start, e.end), e.tag) for e in Entities([tags], IOB2).entities[0]}
    assert set(entities(tags)) == oracle


@given(tags)
def test_lenient_entities_are_those_of_seqeval_default(tags):
    oracle = {Entity(Span(start, end + 1), name) for name, start, end in get_entities(tags)}
    assert set(entities(tags, lenient=True)) == oracle


@given(tags)
def test_tags_of_entities_give_the_entities_back(tags):
    found = entities(tags)
    assert entities(to_tags(len(tags), found)) == found


def test_schemes():
    assert to_iob2(["I-PER", "I-PER", "B-PER", "O", "I-LOC"], "iob1")[0] == ["B-PER", "I-PER", "B-PER", "O", "B-LOC"]
    assert to_iob2(["I-PER", "I-LOC"], "iob1")[0] == ["B-PER", "B-LOC"]
    assert to_iob2(["S-PER", "B-LOC", "I-LOC", "E-LOC"], "bioes")[0] == ["B-PER", "B-LOC", "I-LOC", "I-LOC"]
    assert to_iob2(["O", "I-PER"], "iob2")[0] == ["O", "I-PER"]
    assert to_iob2(["U-PER", "B-LOC", "I-LOC", "L-LOC"], "bilou")[0] == ["B-PER", "B-LOC", "I-LOC", "I-LOC"]
    assert to_iob2(["S-PER", "B-LOC", "M-LOC", "E-LOC"], "bmes")[0] == ["B-PER", "B-LOC", "I-LOC", "I-LOC"]
    for scheme in ("iob2", "iob1", "bilou"):
        with pytest.raises(DataError, match=r"label 'S-PER' has the prefix 'S', .*; set source\.scheme: bioes or bmes"):
            DEFAULT_LABELS.canonical("S-PER", scheme)


@given(tags, st.sampled_from([("bioes", "ES"), ("bilou", "LU"), ("bmes", "ES")]))
def test_bounded_schemes_give_the_entities_that_they_were_made_of(tags, scheme):
    """Against entities written in the scheme; whatever else stands there is counted."""
    name, (last, single) = scheme
    written = ["O"] * len(tags)
    for entity in entities(tags):
        start, end = entity.span.start, entity.span.end
        written[start:end] = [f"{'M' if name == 'bmes' else 'I'}-{entity.type}"] * (end - start)
        written[end - 1] = f"{last}-{entity.type}"
        written[start] = f"{single if end - start == 1 else 'B'}-{entity.type}"
    result, *lost = to_iob2(written, name)
    assert (entities(result), lost) == (entities(tags), [0, 0])


def test_broken_bounded_tags_are_counted_and_never_merged():
    assert to_iob2(["S-PER", "E-PER", "I-PER"], "bioes") == (["B-PER", "O", "O"], 2, 0)
    assert to_iob2(["B-PER", "E-PER", "E-PER"], "bioes") == (["B-PER", "I-PER", "O"], 1, 0)
    assert to_iob2(["B-PER", "I-PER", "B-PER", "O", "B-LOC"], "bilou") == (
        ["B-PER", "I-PER", "B-PER", "O", "B-LOC"],
        0,
        3,
    )
    assert to_iob2(["B-PER", "E-LOC"], "bmes") == (["B-PER", "O"], 1, 1)


def test_orphans():
    assert orphans(["I-PER", "I-PER", "O", "B-LOC", "I-ORG"]) == [True, False, False, False, True]


def test_boundaries_mark_first_and_last_words():
    assert ebd_tags(["B-PER", "I-PER", "I-PER", "O", "B-LOC", "I-LOC"]) == ["B", "O", "E", "O", "B", "E"]
    assert ebd_tags(["B-PER", "B-PER", "O", "I-LOC"]) == ["B", "B", "O", "O"]


def test_overlapping_entities_are_refused():
    with pytest.raises(
        DataError, match=r"entities overlap \(found PER \[0, 2\) and LOC \[1, 3\), in words\); keep one"
    ):
        to_tags(3, [Entity(Span(0, 2), "PER"), Entity(Span(1, 3), "LOC")])
