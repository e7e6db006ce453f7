from synthetic.posts import KINDS_OF, NAMES, NOUNS, OBJECTS, TEST_NAMES, TYPE_OF, TYPES, UNSEEN
from synthetic.scenes import CUES
from synthetic.shapes import KINDS


def test_a_tenth_of_the_test_names_is_unseen():
    assert len(set(NAMES)) == len(set(TEST_NAMES)) == 30
    assert set(TEST_NAMES) - set(NAMES) == set(UNSEEN)
    assert len(UNSEEN) == 3


def test_names_hold_no_word_that_tells_something_else():
    words = {word.lower() for name in (*NAMES, *UNSEEN) for word in name.split()}
    telling = {*CUES, *KINDS, *OBJECTS, *(noun for nouns in NOUNS.values() for noun in nouns)}
    assert not words & telling
    assert not {*CUES, *KINDS} & {*OBJECTS, *(noun for nouns in NOUNS.values() for noun in nouns)}


def test_no_name_or_word_of_one_is_another_name():
    words = [word for name in (*NAMES, *UNSEEN) for word in name.split() if word not in ("Santa", "San", "Saint")]
    assert len(words) == len(set(words))


def test_each_type_has_kinds_of_its_own_and_some_kinds_are_no_entity():
    assert set(KINDS_OF) == set(NOUNS) == set(TYPES)
    assert all(len(kinds) == 3 for kinds in KINDS_OF.values())
    assert len(TYPE_OF) == 12
    assert set(TYPE_OF) < set(KINDS)
