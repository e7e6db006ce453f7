import json

import pytest

from report.posts import page_data, without_predictions
from schema.records import Box, Image, Post, Region, Span, joined
from tests.report.examples import LABELS, Maker, digest, prediction


@pytest.fixture
def maker():
    return Maker(11)


def gathered(maker, lines, **options):
    return page_data(lines, LABELS, maker.load, **options)


def test_boxes_of_the_page_are_those_of_the_objects(maker):
    values = [maker.post(at) for at in range(20)]
    posts = gathered(maker, [prediction(value) for value in values])
    for value, post in zip(values, posts[0]["posts"], strict=True):
        table = [one for one in value["objects"] if one["source"] != "image"]
        assert [box[5:9] for box in post["boxes"]] == [
            [one[side] for side in ("x0", "y0", "x1", "y1")] for one in table
        ]
        assert [box[9] for box in post["boxes"]] == [one["score"] for one in table]
        assert [box[0] for box in post["boxes"]] == [one["text"] for one in table]
        for box in post["boxes"]:
            is_phrase = box[1] >= 0
            assert is_phrase or LABELS[list(LABELS)[box[3]]] == box[0]  # a general word has its type's colour
        assert post["images"][0]["state"] == value["images"][0]["state"]


def test_outcomes_have_the_indices_of_their_entities(maker):
    values = [maker.post(at) for at in range(30)]
    data = gathered(maker, [prediction(value) for value in values])[0]
    for value, post in zip(values, data["posts"], strict=True):
        assert [data["types"][one[2]] for one in post["gold"]] == [one["type"] for one in value["gold"]]
        for kind, gold, predicted in post["outcomes"]:
            same = None not in (gold, predicted) and post["gold"][gold] == post["predicted"][predicted][:3]
            assert (data["kinds"][kind]["name"] == "correct") == same


def test_a_redacted_post_has_no_name_link_or_image(maker):
    value = maker.post(0)
    while value["images"][0]["state"] != "ok":
        value = maker.post(1)
    words = ["@rosa", "near", "http://t.co/x", "with", "@", "otto", "."]
    value |= {"words": words, "gold": [{"start": 0, "end": 1, "type": "PER"}], "entities": []}
    box = {"source": "phrase", "start": 3, "end": 6, "text": "with @ otto", "image_index": 0, "score": 1.0}
    value["objects"] = [
        {**box, "x0": 1, "y0": 2, "x1": 30, "y1": 40},
        {**box, "start": None, "end": None, "x0": 0, "y0": 0, "x1": 9, "y1": 9},
    ]
    posts = gathered(maker, [prediction(value)], redact=True)
    text = json.dumps(posts[0], ensure_ascii=False)
    for secret in ("rosa", "otto", "t.co", value["images"][0]["name"], "base64", digest(value["id"])):
        assert secret not in text
    assert posts[0]["posts"][0]["boxes"][0][5:9] == [1, 2, 30, 40]
    assert posts[0]["redacted"] is True


def test_a_post_too_large_for_the_page_is_counted_and_smaller_ones_are_shown(maker):
    small, large = maker.post(0), maker.post(1)
    large["words"] = large["words"] + ["word"] * 3000
    posts = gathered(maker, [prediction(large), prediction(small)], budget=5000)
    assert [post["id"] for post in posts[0]["posts"]] == [small["id"]]
    assert posts[1] == 1


def test_the_budget_counts_escaped_bytes(maker):
    value = maker.post(0)
    value |= {"words": ["<&>"] * 1000, "gold": [], "entities": [], "objects": []}
    posts = gathered(maker, [prediction(value)], budget=15_000)  # 6,000 bytes as text, 21,000 with its escapes
    assert posts[1] == 1


def test_long_words_are_cut_and_invisible_ones_marked(maker):
    value = maker.post(0)
    value |= {"words": ["w" * 5000, "\u202e", "\ud800"], "gold": [], "entities": [], "objects": []}
    shown = gathered(maker, [prediction(value)])[0]["posts"][0]["words"]
    assert [len(word) < 110 for word in shown] == [True] * 3
    assert shown[1:] == ["␣", "\ufffd"]


def test_a_post_that_was_not_tagged_shows_gold_and_boxes(maker):
    words = ("tiny", "Ada", "Lovelace", "!")
    text, offsets = joined(words)
    images = (Image("a.png", "", 100, 80), Image("b.png", state="missing"))
    post = Post("p1", "train", words, text, offsets, ("O", "B-PER", "I-PER", "O"), images)
    boxes = [
        Region("general", "person", None, Box(0, 0, 10, 10), 0.5, False, "g"),
        Region("phrase", "tiny Ada Lovelace", Span(0, 3), Box(5, 6, 70, 80), 0.9, False, "g"),
    ]
    posts = gathered(maker, [without_predictions(post, boxes)], judge=False)
    shown = posts[0]["posts"][0]
    assert (shown["gold"], shown["predicted"], shown["outcomes"]) == ([[1, 3, 0]], [], [])
    assert shown["boxes"][1] == ["tiny Ada Lovelace", 0, 3, -1, 0, 5, 6, 70, 80, 0.9]
    assert [image["state"] for image in shown["images"]] == ["ok", "missing"]
    assert without_predictions(Post("p2", "train", words, text, offsets), []).gold is None


def test_each_image_is_on_the_page_once(maker):
    lines = [prediction(maker.post(at)) for at in range(10)]
    n_ok = sum(line.post.images[0].state == "ok" for line in lines)
    data = gathered(maker, [*lines, *lines])
    assert len(data[0]["thumbnails"]) == n_ok
    assert data[2] == 0
    used = [image["thumbnail"] for post in data[0]["posts"] for image in post["images"]]
    assert used[:10] == used[10:]
    assert sorted(index for index in used[:10] if index is not None) == list(range(n_ok))


def test_an_image_that_cannot_be_loaded_is_counted(maker):
    lines = [prediction(maker.post(at)) for at in range(10)]
    maker.pil_images.clear()
    assert gathered(maker, lines)[2] == sum(line.post.images[0].state == "ok" for line in lines)
