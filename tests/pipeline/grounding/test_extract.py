"""Boxes of posts: what is asked, what is kept, and that nothing is asked twice."""

import numpy as np
import pytest

from cache.store import Store
from pipeline.engine import Tally
from pipeline.grounding import stage as grounding_stage
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.grounder import ScoredBox
from pipeline.grounding.stage import STORE_SCHEMA, Query, ground_posts, row_key, short_name
from schema.errors import DataError, ImageError, SyntheticError
from schema.labels import LabelSet
from schema.records import Box, Image, Region, Span
from tests.pipeline.drawn import LABELS, FakeGrounder, make_image, phrases, post
from vision import images

# pinned: a key that moves recomputes every row of everybody
PINNED_KEY = "23eea56e86da1498794876598261b917c63c544974d0630dfbae728d0df17cd3"
CONFIG = GroundConfig(grounder="whole-image")
ANSWERS = {
    "person": ScoredBox((1.2, 2.6, 9.0, 10.4), 0.25),
    "place": ScoredBox((-4.0, 5.0, 90.0, 11.0), 0.1),
    "a tiny dog": ScoredBox((0.0, 0.0, 4.0, 4.0), 1 / 3),
}


def ground(folder, posts, parsed, grounder, store=None, config=CONFIG, labels=LABELS):
    boxes, tally = ground_posts(posts, parsed, labels, config, grounder, folder, store)
    return [region for regions in boxes.values() for region in regions], tally


def test_general_words_then_phrases(tmp_path):
    posts = [post("a", make_image(tmp_path, "1.png", 30, 20))]
    found, tally = ground(tmp_path, posts, [phrases("a", (0, 3))], FakeGrounder(ANSWERS))
    third = float(np.float32(1 / 3))
    assert found == [
        Region("general", "person", None, Box(1, 3, 9, 10), 0.25, False, "fake@1"),
        Region("general", "place", None, Box(0, 5, 30, 11), float(np.float32(0.1)), True, "fake@1"),
        Region("phrase", "a tiny dog", Span(0, 3), Box(0, 0, 4, 4), third, False, "fake@1"),
    ]
    assert [(one.clamped, one.grounder) for one in found] == [(False, "fake@1"), (True, "fake@1"), (False, "fake@1")]
    assert tally == Tally("ground", 3, 3)


def test_the_best_image_keeps_a_phrase_and_general_words_stand_in_each(tmp_path):
    first, second = make_image(tmp_path, "1.png", seed=1), make_image(tmp_path, "2.png", seed=2)
    gone = Image("3.png", state="missing")

    class BySize(FakeGrounder):
        def ground(self, pil_images, queries):
            super().ground(pil_images, queries)
            tops = [image.getpixel((0, 0)) == images.load(tmp_path, second).getpixel((0, 0)) for image in pil_images]
            return [
                [
                    ScoredBox((0, 0, 5 + top, 5), {"Paris": 0.2 + top / 2, "a tiny dog": 0.9 - top / 2}.get(text, 0.5))
                    for text in texts
                ]
                for top, texts in zip(tops, queries, strict=True)
            ]

    found, _ = ground(tmp_path, [post("a", first, gone, second)], [phrases("a", (0, 3), (1, 3), (4, 5))], BySize())
    assert [(one.text, one.box.image_index) for one in found] == [
        ("person", 0),
        ("place", 0),
        ("person", 2),
        ("place", 2),
        ("a tiny dog", 0),
        ("tiny dog", 0),
        ("Paris", 2),
    ]
    assert found[-1].box == Box(0, 0, 6, 5, 2)
    assert found[-1].score == pytest.approx(0.7)


def test_nothing_is_grounded_without_an_image(tmp_path):
    grounder = FakeGrounder()
    posts = [post("a"), post("b", Image("x.jpg", state="broken"))]
    assert ground(tmp_path, posts, [phrases("a", (0, 3))], grounder) == ([], Tally("ground", 0, 0))
    assert grounder.calls == []


def test_each_query_is_asked_once_and_each_image_decoded_once(tmp_path, monkeypatch):
    loaded, load = [], images.load
    monkeypatch.setattr(images, "load", lambda folder, image: loaded.append(image.name) or load(folder, image))
    first, second = make_image(tmp_path, "1.png", seed=1), make_image(tmp_path, "2.png", seed=2)
    posts = [post("a", first), post("b", first, second), post("c", second)]
    parsed = [phrases("a", (0, 3)), phrases("b", (0, 3), (4, 5)), phrases("c")]
    grounder = FakeGrounder()
    found, tally = ground(tmp_path, posts, parsed, grounder)
    assert sorted(loaded) == ["1.png", "2.png"]
    assert tally == Tally("ground", 8, 8)
    assert grounder.calls == [
        (2, [["person", "place", "a tiny dog", "Paris"], ["person", "place", "a tiny dog", "Paris"]])
    ]
    assert len(found) == 3 + 6 + 2


def test_images_come_in_bounded_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(grounding_stage, "N_IMAGES", 2)
    posts = [post(f"p{seed}", make_image(tmp_path, f"{seed}.png", seed=seed)) for seed in range(5)]
    grounder = FakeGrounder()
    found, _ = ground(tmp_path, posts, [], grounder)
    assert [n for n, _ in grounder.calls] == [2, 2, 1]
    monkeypatch.setattr(grounding_stage, "N_IMAGES", 5)
    assert ground(tmp_path, posts, [], FakeGrounder())[0] == found


def test_from_store(tmp_path):
    posts = [post("a", make_image(tmp_path, "1.png"))]
    parsed = [phrases("a", (0, 3))]
    with Store(tmp_path / "s", schema=STORE_SCHEMA) as store:
        before = ground(tmp_path, posts, parsed, FakeGrounder(), store)
    grounder = FakeGrounder()
    with Store(tmp_path / "s", schema=STORE_SCHEMA) as store:
        after = ground(tmp_path, posts, parsed, grounder, store)
        assert after == (before[0], Tally("ground", 3, 0))
        more = [*posts, post("b", make_image(tmp_path, "2.png", seed=2))]
        assert ground(tmp_path, more, parsed, grounder, store)[1] == Tally("ground", 5, 2)
        wider = LabelSet({"PER": "person", "ORG": "group"}, {})
        assert ground(tmp_path, posts, parsed, grounder, store, labels=wider)[1] == Tally("ground", 3, 1)
    assert grounder.n_asked == 3


def test_a_cap_cuts_by_the_order_of_words(tmp_path):
    posts, parsed = [post("a", make_image(tmp_path, "1.png"))], [phrases("a", (0, 3), (1, 3), (4, 5))]
    config = GroundConfig(grounder="whole-image", n_phrases_max=2)
    found, _ = ground(tmp_path, posts, parsed, FakeGrounder(), config=config)
    assert [one.text for one in found] == ["person", "place", "a tiny dog", "tiny dog"]


def test_a_synthetic_grounder_sees_drawings_only(tmp_path):
    grounder = FakeGrounder()
    grounder.synthetic = True
    posts = [post("a", make_image(tmp_path, "1.png", drawn=False))]
    with pytest.raises(
        SyntheticError, match=r"post a: whole-image was trained on drawings, and the project did not draw 1\.png"
    ):
        ground(tmp_path, posts, [], grounder)
    assert grounder.calls == []
    allowed = GroundConfig(grounder="whole-image", allow_synthetic=True)
    assert len(ground(tmp_path, posts, [], grounder, config=allowed)[0]) == 2


def test_bad_answers_and_images(tmp_path):
    posts = [post("a", make_image(tmp_path, "1.png"))]
    with pytest.raises(DataError, match="a box must be finite"):
        ground(tmp_path, posts, [], FakeGrounder({"person": ScoredBox((0.0, 0.0, float("nan"), 1.0), 0.5)}))
    make_image(tmp_path, "1.png", seed=5)
    with pytest.raises(ImageError, match=r"1\.png: the image changed since ingest"):
        ground(tmp_path, posts, [], FakeGrounder())


def test_keys_name_what_changes_numbers_and_nothing_else(tmp_path):
    image = make_image(tmp_path, "1.png")
    base = row_key(Query(image, "a dog"), "g")
    assert row_key(Query(Image("other.png", image.digest, 1, 1), "a dog"), "g") == base
    assert len({base, row_key(Query(image, "A dog"), "g"), row_key(Query(image, "a dog"), "h")}) == 3
    assert row_key(Query(Image("1.png", "d"), "x"), "g") == PINNED_KEY


def test_what_is_read_together_is_asked_together_and_named(tmp_path):
    image = make_image(tmp_path, "1.png")
    posts = [post("a", image), post("b", image)]
    parsed = [phrases("a", (0, 3), (4, 5)), phrases("b", (4, 5))]
    grounder = FakeGrounder()
    grounder.merges = True
    with Store(tmp_path / "s", schema=STORE_SCHEMA) as store:
        found, tally = ground(tmp_path, posts, parsed, grounder, store)
        assert tally == Tally("ground", 5, 5)  # the two general words, two phrases of a, and Paris alone
        assert grounder.calls == [(3, [["person", "place"], ["a tiny dog", "Paris"], ["Paris"]])]
        assert [one.text for one in found] == ["person", "place", "a tiny dog", "Paris", "person", "place", "Paris"]
        more = [phrases("a", (0, 3), (4, 5)), phrases("b", (0, 3), (1, 3))]
        grounder.calls.clear()
        assert ground(tmp_path, posts, more, grounder, store)[1] == Tally("ground", 6, 2)
        assert grounder.calls == [(1, [["a tiny dog", "tiny dog"]])]
    base = row_key(Query(image, "a dog"), "g")
    assert (
        len(
            {base, row_key(Query(image, "a dog", ("a dog",)), "g"), row_key(Query(image, "a dog", ("a dog", "b")), "g")}
        )
        == 3
    )


def test_an_image_is_prepared_once_for_all_that_is_read_apart(tmp_path, monkeypatch):
    prepared = []
    grounder = FakeGrounder()
    grounder.merges = True
    monkeypatch.setattr(grounder, "prepare", lambda image: prepared.append(1) or image)
    ground(tmp_path, [post("a", make_image(tmp_path, "1.png"))], [phrases("a", (0, 3))], grounder)
    assert len(prepared) == 1


def test_named_by_weights_or_version():
    grounder = FakeGrounder()
    assert short_name(grounder) == "fake@1"
    grounder.identity = {"name": "owl", "version": "1", "weights": "0123456789abcdef"}
    assert short_name(grounder) == "owl@0123456789ab"
