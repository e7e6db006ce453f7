import hashlib

import pytest

from pipeline.corpus.variants import PAPER, VARIANTS, corpus, variant, warning
from tests.imports import ROOT

TRAIN, VALID = list(VARIANTS)[:2]


def test_all_files_must_belong_to_one_variant():
    assert variant([TRAIN, VALID]) == "twitter2015-umt"
    assert variant([TRAIN]) == "twitter2015-umt"
    assert variant([TRAIN, list(VARIANTS)[3]]) == ""
    assert variant([TRAIN, "0" * 64]) == ""


def test_files_that_pass_for_a_corpus_and_are_not_known_are_named():
    assert warning({"train": TRAIN, "dev": VALID}, "twitter2015") == ""
    assert warning({"train": "0" * 64}, "") == ""  # nobody says that it is one of them
    told = warning({"train": TRAIN, "dev": "0" * 64, "test": "1" * 64}, "twitter2015")
    assert told == (
        "no known variant of twitter2015 has these files: dev, test "
        "(known variants: twitter2015-umt, twitter2017-umt); scores may compare with nobody's"
    )
    mixed = warning({"train": TRAIN, "dev": list(VARIANTS)[4]}, "twitter2015")
    assert mixed.startswith("files of different variants of twitter2015: twitter2015-umt, twitter2017-umt (known")


@pytest.mark.parametrize("name", ["twitter2015", "Twitter-2015", "twitter15_mine"])
def test_a_corpus_is_known_by_its_folder_too(name):
    assert corpus("", name) == "twitter2015"
    assert corpus("twitter2017-umt", name) == "twitter2017"
    assert corpus("", "smoke") == ""


def test_the_papers_totals_are_the_sums_of_its_types():
    wrong = [
        (name, split)
        for name, splits in PAPER.items()
        for split, (*types, total, _) in splits.items()
        if sum(types) != total
    ]
    assert wrong == []


@pytest.mark.skipif(not (ROOT / "../shared/data/twitter2015").is_dir(), reason="the corpora are not beside this folder")
def test_digests_are_those_of_the_files():
    files = sorted((ROOT / "../shared/data").glob("twitter*/*.txt"))
    assert {hashlib.sha256(file.read_bytes()).hexdigest() for file in files} == set(VARIANTS)
