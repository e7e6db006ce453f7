"""The cap on the objects of a lattice, and what it cuts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schema.labels import LabelSet
from schema.lattice import CapCounter, CutObjects, object_span, within_cap
from schema.records import Image, Post, Source, Span, joined

TWO_IMAGES: list[Source] = [*(["image", *["general"] * 51] * 2), *["phrase"] * 5]  # 51 types: 109 objects


def test_whole_images_then_phrases_then_general_words_survive_the_cap() -> None:
    kept = within_cap(TWO_IMAGES, 64)
    assert kept == sorted(kept)
    assert [TWO_IMAGES[index] for index in kept].count("image") == 2
    assert kept[-5:] == [104, 105, 106, 107, 108]  # every phrase
    assert kept[:52] == list(range(52))  # the first image with its general words
    assert len(kept) == 64
    assert within_cap(TWO_IMAGES, 3) == [0, 52, 104]
    assert within_cap(TWO_IMAGES, 1) == [0]
    assert within_cap(TWO_IMAGES, 200) == list(range(109))


@pytest.mark.parametrize(("cap", "objects", "phrases"), [(64, 45, 0), (5, 104, 2), (0, 109, 5)])
def test_the_cut_is_counted_without_features(cap: int, objects: int, phrases: int) -> None:
    text, offsets = joined(["a"])
    image = Image("a.png", "0" * 64, 8, 8)
    broken = Image("b.png", state="broken")
    post = Post("p", "train", ("a",), text, offsets, None, (image, broken, image))
    plain = replace(post, id="q", split="dev", images=(broken,))
    counter = CapCounter(cap, 51, {"p": 5, "q": 5})
    for one in (post, post):
        counter.add(one)
    assert counter.cut == CutObjects(2, 2 * objects, 2 * phrases)
    assert counter.message() == f"train.max_objects {cap} cuts {counter.cut.message()}"
    counter.add(plain)
    assert counter.cut == CutObjects(2 if cap else 3, 2 * objects + (not cap), 2 * phrases)


def test_phrases_are_not_counted_before_their_stage() -> None:
    text, offsets = joined(["a"])
    counter = CapCounter(1, 1, None)
    assert counter.message() == ""
    counter.add(Post("p", "train", ("a",), text, offsets, None, (Image("a.png", "0" * 64, 8, 8),)))
    assert counter.message() == (
        "train.max_objects 1 cuts 1 object(s) of 1 post(s), 0 of them phrases "
        "(phrases are counted after their stage has run)"
    )


def test_positions_of_an_object() -> None:
    assert object_span(Span(0, 1), 5) == (1, 1)
    assert object_span(Span(2, 5), 5) == (3, 5)
    assert object_span(None, 5) == (1, 5)


def test_types_that_share_a_general_word_have_one_object() -> None:
    labels = LabelSet({"PER": "person", "LOC": "place", "CHAR": "person"}, {})
    assert labels.general_words == ("person", "place")
