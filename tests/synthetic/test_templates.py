from itertools import pairwise

from synthetic.posts import PAIRS, SINGLES


def test_templates_are_distinct_and_have_one_or_two_names():
    assert len({*SINGLES, *PAIRS}) == 15
    assert all("{a}" in text and "{b}" not in text for text in SINGLES)
    assert all("{a}" in text and "{b}" in text for text in PAIRS)


def test_some_mention_objects_that_are_no_entity_and_some_are_noisy():
    assert sum("{object}" in text for text in SINGLES) == 3
    texts = " ".join((*SINGLES, *PAIRS))
    assert all(texts.count(slot) >= 2 for slot in ("{user}", "{tag}", "{url}"))


def test_no_two_phrases_touch():
    for text in (*SINGLES, *PAIRS):
        slots = [part in ("{a}", "{b}", "{object}") for part in text.split()]
        assert not any(first and second for first, second in pairwise(slots))
