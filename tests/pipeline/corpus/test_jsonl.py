import json

import pytest

from pipeline.corpus import jsonl
from pipeline.corpus.config import SourceConfig
from schema.errors import DataError


def read(tmp_path, *rows, **source):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return list(jsonl.read(path, SourceConfig(format="jsonl", **source)))


def test_tokens(tmp_path):
    rows = [
        {"id": 7, "tokens": ["Hi", "\u00a0", "Oslo"], "labels": ["O", "O", "B-LOC"], "images": ["a/b.png", "c.png"]},
        {"id": "x", "tokens": ["Hi"], "labels": None, "language": "en"},
    ]
    first, second = read(tmp_path, rows[0], "", rows[1])
    assert (first.id, first.words, first.tags) == ("7", ("Hi", "\u00a0", "Oslo"), ("O", "O", "B-LOC"))
    assert (first.text, first.offsets) == ("Hi \u00a0 Oslo", ((0, 2), (3, 4), (5, 9)))
    assert (first.images, first.image_stem) == (("a/b.png", "c.png"), "")
    assert (second.id, second.tags, second.images, second.where[-2:]) == ("x", None, (), ":3")


def test_raw_text_is_tokenised_and_entities_become_tags(tmp_path):
    text = "Don't  miss \U0001f600Green Day,\u00a0 in Oslo!"
    day, oslo = text.index("Green"), text.index("Oslo")
    entities = [{"start": oslo, "end": oslo + 4, "type": "LOC"}, {"start": day, "end": day + 9, "type": "OTHER"}]
    post, bare = read(tmp_path, {"id": "1", "text": text, "entities": entities}, {"id": "2", "text": text})
    assert post.words == ("Do", "n't", "miss", "\U0001f600", "Green", "Day", ",", "in", "Oslo", "!")
    assert post.tags == ("O", "O", "O", "O", "B-MISC", "I-MISC", "O", "O", "B-LOC", "O")
    assert [text[start:end] for start, end in post.offsets] == list(post.words)
    assert post.text == text
    assert bare.tags is None


def test_an_entity_may_include_the_blanks_around_it(tmp_path):
    (post,) = read(tmp_path, {"id": "1", "text": "in  Oslo  now", "entities": [{"start": 3, "end": 9, "type": "LOC"}]})
    assert post.tags == ("O", "B-LOC", "O")


def text_post(text="Oslo now", **entity):
    return {"id": "1", "text": text, "entities": [{"start": 0, "end": 4, "type": "LOC"} | entity]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"not JSON \(found .*\); write one object a line"),
        ("[" * 100_000, "not JSON"),
        ("[1]", r"not an object \(found list\)"),
        ({"tokens": ["a"]}, r"a post needs an id \(found None\)"),
        ({"id": True, "tokens": ["a"]}, r"a post needs an id \(found True\)"),
        ({"id": "1"}, "a post has either tokens or text"),
        ({"id": "1", "tokens": ["a"], "text": "a"}, "a post has either tokens or text"),
        ({"id": "1", "tokens": ["a"], "label": ["O"]}, "unknown key 'label'; did you mean labels?"),
        ({"id": "1", "tokens": ["a"], "entities": []}, "entities count characters of text, not tokens"),
        ({"id": "1", "text": "a", "labels": ["O"]}, "labels go with tokens, not with text"),
        ({"id": "1", "tokens": ["a", ""]}, "tokens is no list of strings, none of them empty"),
        ({"id": "1", "tokens": ["a"], "labels": ["O", "O"]}, "1 tokens but 2 labels"),
        ({"id": "1", "tokens": ["a"], "labels": ["B-X"]}, "unknown label 'B-X'"),
        ({"id": "1", "tokens": ["a"], "images": "a.png"}, "images is no list of strings"),
        ({"id": "1", "text": " \n\u00a0"}, "no word in this text"),
        ({"id": "1", "text": 3}, "text is no string"),
        ({"id": "1", "text": "a", "entities": {}}, "entities is no list"),
        ('{"id": "1", "tokens": ["\\ud83d"]}', "half of a surrogate pair"),
        ('{"id": "1", "tokens": ["a"], "images": ["\\ud83d.png"]}', "half of a surrogate pair"),
        (text_post(end=3), r"entity 'Osl' \[0, 3\) cuts a token \(found 'Oslo'\); move the entity's ends"),
        (text_post(start=5, end=7), r"entity 'no' \[5, 7\) cuts a token \(found 'now'\)"),
        (text_post(start=2, end=8), r"entity 'lo now' \[2, 8\) cuts a token \(found 'Oslo'\)"),
        (text_post(start=4, end=5), r"an entity without a word \(found ' '\)"),
        (text_post(end=9), r"an entity outside the text of 8 characters \(found \[0, 9\)\)"),
        (text_post(start=-1), "an entity outside the text"),
        (text_post(end=0), "an entity outside the text"),
        (text_post(start="0"), r"an entity needs start, end \(characters\) and type"),
        (text_post(start=False), "an entity needs start"),
        (text_post(type="GPE"), "unknown label 'B-GPE'"),
    ],
)
def test_bad_lines_are_placed(tmp_path, row, message):
    with pytest.raises(DataError, match=rf"a\.jsonl:2: {message}"):
        read(tmp_path, {"id": "0", "tokens": ["fine"]}, row)


def test_entities_must_not_overlap(tmp_path):
    entities = [{"start": 0, "end": 8, "type": "LOC"}, {"start": 5, "end": 8, "type": "PER"}]
    with pytest.raises(DataError, match=r"a\.jsonl:1: entities overlap"):
        read(tmp_path, {"id": "1", "text": "Oslo now", "entities": entities})


def test_bioes_labels_and_entities_by_characters_agree(tmp_path):
    tokens = {"id": "1", "tokens": ["Oslo", "now"], "labels": ["S-LOC", "O"]}
    first, second = read(tmp_path, tokens, text_post(), scheme="bioes")
    assert first.tags == second.tags == ("B-LOC", "O")


def test_posts_in_memory_are_read_like_lines():
    rows = ["Hello Rome!", {"tokens": ["a", "b"]}, {"id": "x", "text": "hey you", "images": ["p.png"]}]
    first, second, third = jsonl.from_rows(rows, SourceConfig(format="jsonl"))
    assert (first.id, first.words) == ("1", ("Hello", "Rome", "!"))
    assert (second.id, second.words) == ("2", ("a", "b"))
    assert (third.id, third.images) == ("x", ("p.png",))
    with pytest.raises(DataError, match=r"posts:1: unknown key 'token'; did you mean tokens\?"):
        list(jsonl.from_rows([{"token": ["a"]}], SourceConfig(format="jsonl")))
    with pytest.raises(DataError, match="posts:1: not an object"):
        list(jsonl.from_rows([3], SourceConfig(format="jsonl")))
