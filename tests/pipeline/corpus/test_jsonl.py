import json

import pytest

from pipeline.corpus import jsonl
from pipeline.corpus.config import PRESETS, SourceConfig
from pipeline.corpus.records import ReadLog
from schema.errors import DataError


def read(tmp_path, *rows, **source):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return posts(path, SourceConfig(format="jsonl", **source))


def posts(path, source):
    return [read() for read in jsonl.posts(path, source, ReadLog())]


def in_memory(rows, **source):
    return [read() for read in jsonl.posts_in_memory(rows, SourceConfig(format="jsonl", **source), ReadLog())]


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
        ("{", r"not JSON \(found .*\); write one object per line"),
        ("[" * 100_000, "not JSON"),
        ("[1]", r"not an object \(found list\)"),
        ({"id": "", "tokens": ["a"]}, r"an id must be a string or a number \(found ''\)"),
        ({"id": True, "tokens": ["a"]}, r"an id must be a string or a number \(found True\)"),
        (
            {"id": "1"},
            r"a post has either tokens or text \(found the keys id\); name the key of the text or the tokens with",
        ),
        ({"id": "1", "tokens": ["a"], "text": "a"}, "a post has either .*leave the other out with source.ignore"),
        (
            {"id": "1", "tokens": ["a"], "label": ["O"]},
            r"unknown key 'label' looks like labels \(found \['O'\]\); map it with source\.fields: {labels: label}",
        ),
        (
            {"id": "1", "tokens": ["a"], "entities": []},
            "entity offsets count characters of `text`, not tokens",
        ),
        ({"id": "1", "text": "a", "labels": ["O"]}, "labels go with tokens, not with text"),
        ({"id": "1", "tokens": ["a", ""]}, "tokens is not a list of non-empty strings"),
        ({"id": "1", "tokens": ["a"], "labels": ["O", "O"]}, "1 tokens but 2 labels"),
        ({"id": "1", "tokens": ["a"], "labels": ["B-X"]}, "unknown label 'B-X'"),
        ({"id": "1", "tokens": ["a"], "images": [3]}, "images is not a list of non-empty strings"),
        ({"id": "1", "text": " \n\u00a0"}, "this text has no words"),
        ({"id": "1", "text": 3}, "the text is not a string"),
        ({"id": "1", "text": "a", "entities": {}}, "entities is not a list"),
        ('{"id": "1", "tokens": ["\\ud83d"]}', "half of a surrogate pair"),
        ('{"id": "1", "tokens": ["a"], "images": ["\\ud83d.png"]}', "half of a surrogate pair"),
        (text_post(end=3), r"entity 'Osl' \[0, 3\) splits a token \(found 'Oslo'\); move the entity's boundaries"),
        (text_post(start=5, end=7), r"entity 'no' \[5, 7\) splits a token \(found 'now'\)"),
        (text_post(start=2, end=8), r"entity 'lo now' \[2, 8\) splits a token \(found 'Oslo'\)"),
        (text_post(start=4, end=5), r"an entity without a word \(found ' '\)"),
        (text_post(end=9), r"an entity outside the text of 8 characters \(found \[0, 9\)\)"),
        (text_post(start=-1), "an entity outside the text"),
        (text_post(end=0), "an entity outside the text"),
        (text_post(start="0"), r"an entity needs start, end \(characters\) and type"),
        (text_post(start=False), "an entity needs start"),
        (text_post(type="GPE"), "unknown label 'GPE'"),
    ],
)
def test_bad_lines_are_placed(tmp_path, row, message):
    with pytest.raises(DataError, match=rf"a\.jsonl:2: {message}"):
        read(tmp_path, {"id": "0", "tokens": ["fine"]}, row)


def test_entities_must_not_overlap(tmp_path):
    entities = [{"start": 0, "end": 8, "type": "LOC"}, {"start": 5, "end": 8, "type": "PER"}]
    with pytest.raises(
        DataError, match=r"a\.jsonl:1: entities overlap \(found LOC 'Oslo now' and PER 'now'\); keep one of the two"
    ):
        read(tmp_path, {"id": "1", "text": "Oslo now", "entities": entities})


def test_bioes_labels_and_entities_by_characters_agree(tmp_path):
    tokens = {"id": "1", "tokens": ["Oslo", "now"], "labels": ["S-LOC", "O"]}
    first, second = read(tmp_path, tokens, text_post(), scheme="bioes")
    assert first.tags == second.tags == ("B-LOC", "O")


def test_posts_in_memory_are_read_like_lines():
    rows = ["Hello Rome!", {"tokens": ["a", "b"]}, {"id": "x", "text": "hey you", "images": ["p.png"]}]
    first, second, third = in_memory(rows)
    assert (first.id, first.words) == ("1", ("Hello", "Rome", "!"))
    assert (second.id, second.words) == ("2", ("a", "b"))
    assert (third.id, third.images) == ("x", ("p.png",))
    with pytest.raises(DataError, match=r"posts:1: unknown key 'token'; did you mean tokens\?"):
        in_memory([{"token": ["a"]}])
    with pytest.raises(DataError, match="posts:1: not an object"):
        in_memory([3])


def test_rows_of_other_projects_are_read_by_fields(tmp_path):
    row = {"id": "0", "tokens": ["Ann", "in", "Oslo"], "ner_tags": [1, 0, 3], "pos_tags": [1, 2, 1], "img_id": 17}
    with pytest.raises(
        DataError, match=r"a\.jsonl:1: unknown key 'ner_tags' looks like labels \(found \[1, 0, 3\]\); map it with"
    ):
        read(tmp_path, row)
    fields = {"labels": "ner_tags", "images": "img_id"}
    with pytest.raises(
        DataError, match=r"labels are numbers \(found 1\); give their names in order: source\.label_names"
    ):
        read(tmp_path, row, fields=fields)
    (post,) = read(tmp_path, row, fields=fields, label_names=["O", "B-PER", "I-PER", "B-LOC"])
    assert (post.tags, post.images) == (("B-PER", "O", "B-LOC"), ("17",))
    row = {"sentence": "Ann in Oslo", "image_path": "a.png", "entity_spans": [[0, 3, "PER"]]}
    with pytest.raises(DataError, match=r"unknown key 'image_path' looks like images \(found 'a\.png'\)"):
        read(tmp_path, row)
    with pytest.raises(
        DataError, match=r"found the keys sentence\); name the key of .* with source\.fields: {text: sentence}"
    ):
        read(tmp_path, row, ignore=["image_path", "entity_spans"])
    fields = {"text": "sentence", "images": "image_path", "entities": "entity_spans"}
    (post,) = read(tmp_path, row, fields=fields)
    assert (post.id, post.tags, post.images) == ("a-1", ("B-PER", "O", "O"), ("a.png",))


@pytest.mark.parametrize(
    "key", ["tags", "ner_tags", "label", "labels2", "spans", "gold_entities", "ents", "bio", "annotations", "mentions"]
)
def test_what_looks_like_gold_is_never_ignored_in_silence(tmp_path, key):
    row = {"id": "1", "text": "Ann in Oslo", key: [{"start": 0}]}
    with pytest.raises(DataError, match=rf"unknown key '{key}' (looks like entities|; did)"):
        read(tmp_path, row)
    assert read(tmp_path, row, ignore=[key])[0].tags is None
    assert (
        read(
            tmp_path,
            {
                "id": "1",
                "text": "Ann",
                "hashtags": ["x"],
                "pos_tags": [1],
                "owners": ["y"],
                "stages": [2],
                "gold_label": "no",
            },
        )[0].tags
        is None
    )


TEXT = "Ann in Oslo"
SPAN = {"start": 0, "end": 3, "label": "PER"}


@pytest.mark.parametrize(
    ("preset", "row"),
    [
        ("doccano", {"id": 1, "text": TEXT, "label": [[0, 3, "PER"], [7, 11, "LOC"]]}),
        ("doccano", {"id": 1, "text": TEXT, "labels": [[0, 3, "PER"], [7, 11, "LOC"]], "Comments": []}),
        (
            "doccano",
            {
                "text": TEXT,
                "entities": [
                    {"id": 3, "label": "PER", "start_offset": 0, "end_offset": 3},
                    {"id": 4, "label": "LOC", "start_offset": 7, "end_offset": 11},
                ],
                "relations": [],
            },
        ),
        (
            "prodigy",
            {
                "text": TEXT,
                "tokens": [
                    {"text": "Ann", "start": 0, "end": 3, "id": 0, "ws": True},
                    {"text": "in", "start": 4, "end": 6, "id": 1},
                    {"text": "Oslo", "start": 7, "end": 11, "id": 2},
                    {"text": "\n\t", "start": 0, "end": 2, "id": 3},  # a blank one, whose offsets tools get wrong
                ],
                "spans": [{**SPAN, "token_start": 0}, {"start": 7, "end": 11, "label": "LOC", "text": "Os"}],
                "_input_hash": 5,
                "answer": "accept",
                "meta": {"score": 1},
            },
        ),
        (
            "labelstudio",
            {"id": 1, "text": TEXT, "label": [{**SPAN, "labels": ["PER"]}, {"start": 7, "end": 11, "labels": ["LOC"]}]},
        ),
        (
            "labelstudio",
            {
                "id": 9,
                "data": {"text": TEXT},
                "annotations": [
                    {"result": [], "was_cancelled": True},
                    {
                        "result": [
                            {"value": {"start": 0, "end": 3, "text": "Ann", "labels": ["PER"]}, "type": "labels"},
                            {"value": {"choices": ["x"]}, "type": "choices"},
                            {"value": {"start": 0, "end": 3, "text": "Ann", "choices": ["sure"]}, "type": "choices"},
                            {"value": {"start": 7, "end": 11, "text": "Oslo", "labels": ["LOC"]}, "type": "labels"},
                        ]
                    },
                ],
            },
        ),
        (
            "labelstudio",  # before version 1.0
            {
                "id": 0,
                "task_path": "../tasks.json",
                "data": {"text": TEXT},
                "completions": [
                    {
                        "result": [
                            {"value": {"start": 0, "end": 2, "text": "Ann", "labels": ["PER"]}, "type": "labels"},
                            {"value": {"start": 7, "end": 10, "text": "Oslo", "labels": ["LOC"]}, "type": "labels"},
                        ]
                    }
                ],
            },
        ),
    ],
)
@pytest.mark.parametrize("as_list", [False, True])
def test_exports_of_annotation_tools(tmp_path, preset, row, as_list):
    row.pop("label", None) if preset == "labelstudio" and "data" in row else None
    path = tmp_path / "a.json"
    path.write_text(json.dumps([row], indent=1) if as_list else json.dumps(row))
    (post,) = posts(path, PRESETS[preset])
    assert (post.words, post.tags) == (("Ann", "in", "Oslo"), ("B-PER", "O", "B-LOC"))


def test_annotations_that_are_no_gold(tmp_path):
    (post,) = read(tmp_path, {"text": TEXT, "spans": [SPAN], "answer": "reject"}, export="prodigy")
    assert post.tags is None
    two = {"data": {"text": TEXT}, "annotations": [{"result": []}, {"result": []}]}
    with pytest.raises(DataError, match="2 annotations of one text; keep one of them"):
        read(tmp_path, two, export="labelstudio")
    with pytest.raises(DataError, match=r"'spans' looks like entities .*in Prodigy's form: source: {preset: prodigy}"):
        read(tmp_path, {"text": TEXT, "spans": [SPAN]})


def test_offsets_in_utf16_units_are_read_by_params_and_suspected(tmp_path):
    text = "\U0001f600\U0001f600 Oslo"
    row = {"text": text, "entities": [{"start": 5, "end": 9, "type": "LOC"}]}
    with pytest.raises(
        DataError, match=r"outside the text of 7 characters .*the offsets may count UTF-16 units, .*offsets: utf16"
    ):
        read(tmp_path, row)
    (post,) = read(tmp_path, row, offsets="utf16")
    assert post.tags[-1] == "B-LOC"
    row["entities"][0] |= {"start": 3, "end": 7, "text": "Rome"}
    with pytest.raises(DataError, match=r"text\[3:7\] is 'Oslo', but the entity says 'Rome'"):
        read(tmp_path, row)
