import pytest

from schema.errors import DataError
from synthetic.draw import GOLD_FILE, gold, gold_lines, read_gold
from synthetic.posts import BLOCK, draft
from synthetic.scenes import compose, dataset_rng


def drawn(k):
    post = draft(0, "test", k)
    scene = compose(dataset_rng(0, post.number), post.objects)
    return post, scene


def test_gold_says_what_the_scene_shows():
    spoken = 0
    for k in range(12):
        post, scene = drawn(k)
        found = gold(post, scene)
        assert [item.box for item in (*found.names, *found.others)] == [item.box for item in scene.objects]
        assert [(n.kind, n.cue, n.span, n.type) for n in found.names] == [
            (m.kind, m.cue, m.span, m.type) for m in post.mentions
        ]
        assert [item.phrase for item in found.others if item.phrase] == [post.object_span] * bool(post.object_span)
        assert all(item.type == "" and item.span is None for item in found.others)
        spoken += post.object_span is not None
    assert spoken


def test_gold_is_read_as_it_was_written(tmp_path):
    found = [gold(*drawn(k)) for k in range(BLOCK // 8)]
    (tmp_path / GOLD_FILE).write_text(gold_lines(found), encoding="utf-8")
    assert read_gold(tmp_path) == {post.id: post for post in found}


def test_only_drawn_data_have_gold(tmp_path):
    with pytest.raises(DataError, match=r"gold\.jsonl: no gold file; only synthetic datasets have it"):
        read_gold(tmp_path)


@pytest.mark.parametrize("line", ['{"x', "[]", '{"id": "1"}', '{"id": "1", "names": [{"box": 3}], "others": []}'])
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / GOLD_FILE).write_text(gold_lines([gold(*drawn(0))]) + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"gold\.jsonl:2: not a line of gold .*; draw it again: fmit draw"):
        read_gold(tmp_path)
