from pipeline.corpus.statistics import count, rows
from schema.labels import DEFAULT_LABELS
from schema.records import Image, Post, joined


def post(name, split, tags, *images):
    words = tuple("abcdefgh"[: len(tags.split())] if tags else "a")
    return Post(name, split, words, *joined(words), tuple(tags.split()) if tags else None, images)


POSTS = [
    post("1", "train", "B-PER I-PER O B-LOC", Image("a", synthetic=True), Image("b", state="missing", reason="gone")),
    post("2", "train", "I-PER O B-MISC I-LOC", Image("a", synthetic=True)),
    post("3", "test", "", Image("c", state="broken", reason="torn")),
    post("4", "test", "O"),
]


def test_every_figure_is_counted_by_hand():
    found = count(POSTS)
    train, test = found.splits["train"], found.splits["test"]
    assert train.to_json() == {
        "n_posts": 2,
        "n_words": 8,
        "n_unlabelled": 0,
        "n_orphans": 2,
        "n_without_image": 0,
        "entities": {"LOC": 1, "MISC": 1, "PER": 1},
        "images": {"missing": 1, "ok": 2},
    }
    assert (test.n_posts, test.n_unlabelled, test.n_without_image, test.images) == (2, 1, 1, {"broken": 1})
    assert (found.total("n_posts"), found.images("ok"), found.n_images, found.synthetic) == (4, 2, 1, True)
    assert found.examples == {"missing": ["b: gone"], "broken": ["c: torn"], "refused": []}


def test_an_image_of_many_posts_is_named_once():
    many = [post(str(i), "dev", "O", Image("x", state="missing", reason="gone")) for i in range(9)]
    found = count([*many, post("9", "dev", "O", Image("y", state="missing", reason="gone"))])
    assert (found.images("missing"), found.examples["missing"]) == (10, ["x: gone", "y: gone"])


def test_one_image_that_nobody_drew_makes_the_data_real():
    assert not count([*POSTS, post("5", "dev", "O", Image("d"))]).synthetic
    assert not count([post("5", "dev", "O")]).synthetic


def test_the_table_sets_the_papers_figures_beside_ours():
    assert rows(count(POSTS), DEFAULT_LABELS)[:2] == [("entities", "train", "test"), ("PER person", "1", "0")]
    table = {title: figures for title, *figures in rows(count(POSTS), DEFAULT_LABELS, "twitter2017")}
    assert table["entities (in the paper)"] == ["train", "test"]
    assert table["PER person"] == ["1 (2943)", "0 (621)"]
    assert table["total"] == ["3 (6049)", "0 (1351)"]
    assert table["posts"] == ["2 (3373)", "2 (723)"]
    assert table["orphan I- tags"] == ["2", "0"]
    assert table["images missing"] == ["1", "0"]


def test_most_images_unusable_is_a_warning():
    few = [post("1", "dev", "O", Image("a")), post("2", "dev", "O", Image("b", state="missing"))]
    assert count(few).image_warning() == count([post("1", "dev", "O")]).image_warning() == ""
    many = [*few, post("3", "test", "O", Image("c", state="refused"), Image("d", state="refused"))]
    assert count(many).image_warning() == (
        "3 of 4 images cannot be used (1 missing, 2 refused): the model reads an empty image instead"
    )
