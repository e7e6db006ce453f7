from itertools import pairwise

from synthetic.posts import PAIRS, SINGLES, Template


def test_slots_are_counted():
    assert (Template("{a} or {b}").n_names, Template("{a} or {b}").has_thing) == (2, False)
    assert (Template("{a} on {thing}").n_names, Template("{a} on {thing}").has_thing) == (1, True)


def test_templates_are_distinct_and_of_one_or_two_names():
    assert len({template.text for template in (*SINGLES, *PAIRS)}) == 15
    assert {template.n_names for template in SINGLES} == {1}
    assert {template.n_names for template in PAIRS} == {2}


def test_some_speak_of_things_that_are_no_entity_and_some_are_noisy():
    assert sum(template.has_thing for template in SINGLES) == 3
    texts = " ".join(template.text for template in (*SINGLES, *PAIRS))
    assert all(texts.count(slot) >= 2 for slot in ("{user}", "{tag}", "{url}"))


def test_no_two_phrases_touch():
    for template in (*SINGLES, *PAIRS):
        slots = [part in ("{a}", "{b}", "{thing}") for part in template.parts]
        assert not any(first and second for first, second in pairwise(slots))
