import json

import pytest
from PIL import Image

from pipeline.corpus.config import SourceConfig
from pipeline.corpus.reader import CHUNK_POSTS, Gallery, Ids, count_posts, read_posts_file
from schema.errors import DataError
from vision import images


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (5, 3)).save(tmp_path / "pictures/1.jpg")
    Image.new("RGB", (4, 4)).save(tmp_path / "pictures/2.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.jpg")
    return tmp_path


def conll(folder, *ids):
    path = folder / "a.txt"
    path.write_text("\n".join(f"IMGID:{name}\nHi\tO\n" for name in ids), encoding="utf-8")
    return path


def read(folder, *ids):
    return list(read_posts_file(conll(folder, *ids), SourceConfig(), "train", Gallery(folder / "pictures")))


def test_an_id_names_its_picture_with_or_without_a_suffix(folder):
    found = [post.images[0] for post in read(folder, "1", "2", "2.png", "3")]
    assert [(image.name, image.width, image.state) for image in found] == [
        ("1.jpg", 5, "ok"),
        ("2.png", 4, "ok"),
        ("2.png", 4, "ok"),
        ("3.jpg", 0, "missing"),
    ]


def test_a_repeated_id_gets_a_number_and_keeps_its_picture(folder):
    ids = Ids()
    posts = list(read_posts_file(conll(folder, "1", "1~2", "1", "1"), SourceConfig(), "train", ids=ids))
    assert [post.id for post in posts] == ["1", "1~2", "1~3", "1~4"]
    assert [post.images[0].name for post in posts] == ["1.jpg", "1~2.jpg", "1.jpg", "1.jpg"]
    assert ids.n_repeated == 2


def test_ids_are_unique_across_the_files_of_a_dataset(folder):
    ids, path = Ids(), conll(folder, "1")
    names = [post.id for _ in range(3) for post in read_posts_file(path, SourceConfig(), "dev", ids=ids)]
    assert names == ["1", "1~2", "1~3"]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("written", "name"), [("../secret", ".._secret"), ("../../x", ".._.._x"), ("/etc/x", "_etc_x")]
)
def test_a_path_out_of_the_folder_is_refused_and_its_post_kept(folder, written, name, there):
    gallery, ids = Gallery(folder / ("pictures" if there else "nowhere")), Ids()
    (post,) = read_posts_file(conll(folder, written), SourceConfig(), "train", gallery, ids)
    assert (post.id, ids.n_renamed) == (name, 1)
    assert (post.images[0].state, post.images[0].reason) == ("refused", "the name leaves the image folder")
    assert post.images[0].digest == ""


@pytest.mark.parametrize(("written", "name"), [("..", "__"), (".", "_"), ("a\\b", "a_b")])
def test_ids_never_become_a_path(folder, written, name):
    assert read(folder, written)[0].id == name


def test_an_id_that_is_too_long_is_placed(folder):
    with pytest.raises(DataError, match=r"a\.txt:4: a post id holds 1 to 200 characters"):
        read(folder, "1", "x" * 201)


def test_without_a_folder_pictures_are_missing_and_posts_stay(folder):
    for gallery in (None, Gallery(None), Gallery(folder / "nowhere")):
        (post,) = read_posts_file(conll(folder, "1"), SourceConfig(), "predict", gallery)
        assert [(image.state, image.reason) for image in post.images] == [("missing", "no folder of pictures")]


def test_each_distinct_picture_is_probed_once_over_all_chunks(folder, monkeypatch):
    looked = []
    real = images.probe
    monkeypatch.setattr(images, "probe", lambda *place: looked.append(place[1]) or real(*place))
    posts = read(folder, *["1", "2", "1"] * CHUNK_POSTS)
    assert len(posts) == 3 * CHUNK_POSTS
    assert sorted(looked) == ["1.jpg", "2.png"]


def test_posts_of_jsonl_have_the_pictures_they_name(folder):
    path = folder / "a.jsonl"
    rows = [{"id": "a", "tokens": ["Hi"], "images": ["2.png", "1.jpg"]}, {"id": "b", "text": "so what"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = SourceConfig(format="jsonl")
    first, second = read_posts_file(path, source, "predict", Gallery(folder / "pictures"))
    assert [image.width for image in first.images] == [4, 5]
    assert (second.images, second.words, second.split) == ((), ("so", "what"), "predict")
    assert count_posts(path, source) == 2


def test_posts_are_counted_without_reading_them(folder):
    assert count_posts(conll(folder, "1", "2", "3"), SourceConfig()) == 3


def test_posts_are_read_as_they_are_asked_for(folder):
    path = conll(folder, *map(str, range(2 * CHUNK_POSTS)))
    path.write_text(path.read_text() + "IMGID:broken\n", encoding="utf-8")
    posts = read_posts_file(path, SourceConfig(), "train")
    assert next(posts).id == "0"  # the bad line at the end has not been reached
    with pytest.raises(DataError, match="post broken has no words"):
        list(posts)
