"""Gold phrases and boxes in place of the models', on a few drawn posts."""

import dataclasses

import pytest

from cache.packs import Pack
from cache.tables import read_boxes, read_phrases, read_posts
from commands.study import phrase_boxes
from commands.study.phrase_boxes import PAIRS, Pair, folder_of, is_drawn, prepare_pair, quality, train_pairs
from commands.study.steps import prepare
from schema.records import Box
from synthetic.gold import read_gold
from tests.commands.study.made_study import make_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = make_study(tmp_path_factory.mktemp("study"), ("fmit",))
    prepare(made, "tiny", lambda text: None)
    return made


def test_nine_pairs():
    assert len({pair.name for pair in PAIRS}) == 9


def test_gold_phrases_have_the_boxes_of_their_things(study):
    prepare_pair(study, "tiny", Pair("gold", "gold"))
    folder = folder_of(study, "tiny", Pair("gold", "gold"))
    gold = read_gold(study.data("tiny"))
    posts = {post.id: post for post in read_posts(study.out("tiny", "posts.parquet")).posts}
    for found in read_phrases(folder / "phrases.parquet")[0]:
        assert {one.span for one in found.phrases} == {
            thing.phrase for thing in (*gold[found.post_id].names, *gold[found.post_id].others) if thing.phrase
        }
    boxes, meta = read_boxes(folder / "boxes.parquet")
    assert meta["ground"]["config"] == {"grounder": "gold"}
    for row in boxes:
        post = gold[row.post_id]
        if row.span:
            assert row.box in [thing.box for thing in (*post.names, *post.others) if thing.phrase == row.span]
        else:
            words = study.source("tiny").label_set().words
            first = [thing.box for thing in post.names if words[thing.type] == row.text][:1]
            image = posts[row.post_id].images[0]
            assert row.box == (first[0] if first else Box(0, 0, image.width, image.height))
    assert {row.source for row in boxes} == {"phrase", "general"}


def test_a_models_phrase_takes_the_thing_with_most_common_words(study):
    gold = next(post for post in read_gold(study.data("tiny")).values() if len(post.names) > 1)
    one = gold.names[0]
    wider = dataclasses.replace(one.phrase, end=one.phrase.end + 1)
    assert phrase_boxes._thing_at(wider, gold.names) == one
    assert phrase_boxes._thing_at(dataclasses.replace(one.phrase, start=90, end=99), gold.names) is None


def test_no_phrases_leave_the_general_words(study):
    prepare_pair(study, "tiny", Pair("no", "model"))
    pack = Pack.open(folder_of(study, "tiny", Pair("no", "model")) / "pack")
    own = Pack.open(study.pack("tiny"))
    for name in pack.ids:
        assert [region.source for region in pack.read(name).regions] == [
            region.source for region in own.read(name).regions if region.source != "phrase"
        ]


def test_pairs_are_trained_once_and_stand_in_the_table(study, monkeypatch):
    monkeypatch.setattr(phrase_boxes, "PAIRS", (Pair("gold", "gold"), Pair("no", "random")))
    said = []
    train_pairs(study, "tiny", said.append, "cpu")
    assert len(said) == 2
    train_pairs(study, "tiny", said.append, "cpu")
    assert len(said) == 2
    monkeypatch.undo()
    table = quality(study, "tiny", "test")
    assert [row.remark for row in table.rows] == ["", *["not run"] * 7, ""]
    entities, _, both = table.rows[0].cells[1:]
    assert both.value <= entities.value


def test_only_drawn_datasets_have_gold(study):
    assert is_drawn(study, "tiny")
    (study.data("tiny-other") / "gold.jsonl").unlink()
    assert not is_drawn(study, "tiny-other")
