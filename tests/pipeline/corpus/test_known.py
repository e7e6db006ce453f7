import hashlib
import itertools

import pytest

from pipeline.corpus.variants import PAPER, VARIANTS, corpus, variant, warning
from tests.imports import ROOT

TRAIN, VALID = list(VARIANTS)[:2]
OTHER_TEST = "a7d9e172ae85bd3e35276eb2b01ce223321bdc92a47b234e24305d72e7a05243"


def test_all_files_must_belong_to_one_variant():
    assert variant({"train": TRAIN, "dev": VALID}) == "twitter2015-umt"
    assert variant({"train": TRAIN}) == "twitter2015-umt"
    assert variant({"train": TRAIN, "dev": list(VARIANTS)[3]}) == ""
    assert variant({"train": TRAIN, "dev": "0" * 64}) == ""


def test_every_combination_of_splits_is_recognised():
    for name in ("twitter2015-umt", "twitter2017-umt"):
        files = {split: digest for digest, (known, split) in VARIANTS.items() if known == name}
        assert list(files) == ["train", "dev", "test"]
        for n in range(1, 4):
            for splits in itertools.combinations(files, n):
                assert variant({split: files[split] for split in splits}) == name
    assert files["test"] == OTHER_TEST
    assert warning({"train": "0" * 64, "test": OTHER_TEST}, "") == (
        "no known variant of twitter2017-umt has these files: train; test matches twitter2017-umt "
        "(known variants: twitter2015-umt, twitter2017-umt); scores may not be comparable with published ones"
    )
    assert warning({"dev": OTHER_TEST}, "").startswith(
        "files under another split's name: dev is twitter2017-umt's test ("
    )


def test_files_that_pass_for_a_corpus_and_are_not_known_are_named():
    assert warning({"train": TRAIN, "dev": VALID}, "twitter2015") == ""
    assert warning({"train": "0" * 64}, "") == ""  # nobody says that it is one of them
    found = warning({"train": TRAIN, "dev": "0" * 64, "test": "1" * 64}, "twitter2015")
    assert found == (
        "no known variant of twitter2015 has these files: dev, test; train matches twitter2015-umt "
        "(known variants: twitter2015-umt, twitter2017-umt); scores may not be comparable with published ones"
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
    assert {hashlib.sha256(file.read_bytes()).hexdigest() for file in files} == set(VARIANTS) - {OTHER_TEST}
