import json

import pytest
from PIL import Image

from pipeline.corpus.config import SourceConfig
from pipeline.corpus.reader import CHUNK_POSTS, ImageFolder, count_posts, read_dataset, read_file
from pipeline.corpus.records import ReadLog
from schema.errors import DataError
from vision import images


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (5, 3)).save(tmp_path / "images/1.jpg")
    Image.new("RGB", (4, 4)).save(tmp_path / "images/2.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.jpg")
    return tmp_path


def conll(folder, *ids):
    path = folder / "a.txt"
    path.write_text("\n".join(f"IMGID:{name}\nHi\tO\n" for name in ids), encoding="utf-8")
    return path


def read(folder, *ids):
    return list(read_file(conll(folder, *ids), SourceConfig(), "train", ImageFolder(folder / "images")))


def test_an_id_names_its_image_with_or_without_a_suffix(folder):
    found = [post.images[0] for post in read(folder, "1", "2", "2.png", "3")]
    assert [(image.name, image.width, image.state) for image in found] == [
        ("1.jpg", 5, "ok"),
        ("2.png", 4, "ok"),
        ("2.png", 4, "ok"),
        ("3.jpg", 0, "missing"),
    ]


def test_a_repeated_id_gets_a_number_and_keeps_its_image(folder):
    log = ReadLog()
    posts = list(read_file(conll(folder, "1", "1~2", "1", "1"), SourceConfig(), "train", log=log))
    assert [post.id for post in posts] == ["1", "1~2", "1~3", "1~4"]
    assert [post.images[0].name for post in posts] == ["1.jpg", "1~2.jpg", "1.jpg", "1.jpg"]
    assert log.n_repeated == 2


def test_ids_are_unique_across_the_files_of_a_dataset(folder):
    log, path = ReadLog(), conll(folder, "1")
    names = [post.id for _ in range(3) for post in read_file(path, SourceConfig(), "dev", log=log)]
    assert names == ["1", "1~2", "1~3"]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("written", "name"), [("../secret", ".._secret"), ("../../x", ".._.._x"), ("/etc/x", "_etc_x")]
)
def test_a_path_out_of_the_folder_is_refused_and_its_post_kept(folder, written, name, there):
    images_of, log = ImageFolder(folder / ("images" if there else "nowhere")), ReadLog()
    (post,) = read_file(conll(folder, written), SourceConfig(), "train", images_of, log)
    assert (post.id, log.n_renamed) == (name, 1)
    assert (post.images[0].state, post.images[0].reason) == ("refused", "the name leaves the image folder")
    assert post.images[0].digest == ""


@pytest.mark.parametrize(("written", "name"), [("..", "__"), (".", "_"), ("a\\b", "a_b")])
def test_ids_never_become_a_path(folder, written, name):
    assert read(folder, written)[0].id == name


def test_an_id_that_is_too_long_is_placed(folder):
    with pytest.raises(DataError, match=r"a\.txt:4: a post id needs 1 to 200 characters"):
        read(folder, "1", "x" * 201)


def test_without_a_folder_images_are_missing_and_posts_stay(folder):
    for there in (None, ImageFolder(None), ImageFolder(folder / "nowhere")):
        (post,) = read_file(conll(folder, "1"), SourceConfig(), "predict", there)
        assert [(image.state, image.reason) for image in post.images] == [("missing", "no folder of images")]


def test_each_distinct_image_is_probed_once_over_all_chunks(folder, monkeypatch):
    looked = []
    real = images.probe
    monkeypatch.setattr(images, "probe", lambda *place: looked.append(place[1]) or real(*place))
    posts = read(folder, *["1", "2", "1"] * CHUNK_POSTS)
    assert len(posts) == 3 * CHUNK_POSTS
    assert sorted(looked) == ["1.jpg", "2.png"]


def test_posts_of_jsonl_have_the_images_they_name(folder):
    path = folder / "a.jsonl"
    rows = [{"id": "a", "tokens": ["Hi"], "images": ["2.png", "1.jpg"]}, {"id": "b", "text": "so what"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = SourceConfig(format="jsonl")
    first, second = read_file(path, source, "predict", ImageFolder(folder / "images"))
    assert [image.width for image in first.images] == [4, 5]
    assert (second.images, second.words, second.split) == ((), ("so", "what"), "predict")
    assert count_posts(path, source) == 2


def test_posts_are_counted_without_reading_them(folder):
    assert count_posts(conll(folder, "1", "2", "3"), SourceConfig()) == 3


def test_posts_are_read_as_they_are_asked_for(folder):
    path = conll(folder, *map(str, range(2 * CHUNK_POSTS)))
    path.write_text(path.read_text() + "IMGID:broken\n", encoding="utf-8")
    posts = read_file(path, SourceConfig(), "train")
    assert next(posts).id == "0"  # the bad line at the end has not been reached
    with pytest.raises(DataError, match="post broken has no words"):
        list(posts)


def test_images_are_found_by_the_exact_name_first_and_then_as_people_write_it(folder):
    place = folder / "images"
    (place / "sub").mkdir()
    for name in ("3.JPEG", "4.Png", "caf\u00e9.jpg", "5.jpg", "5.JPG", "sub/6.jpeg", "7.jpg.png"):
        Image.new("RGB", (len(name), 3)).save(place / name, "PNG")
    names = {
        "3": "3.JPEG",
        "3.jpg": "3.JPEG",
        "4": "4.Png",
        "4.png": "4.Png",
        "cafe\u0301": "caf\u00e9.jpg",
        "cafe\u0301.jpg": "caf\u00e9.jpg",
        "5.jpg": "5.jpg",
        "5.JPG": "5.JPG",
        "5.Jpg": "5.JPG",
        "sub/6": "sub/6.jpeg",
        "7": "7.jpg",
    }
    for post, (written, name) in zip(read(folder, *names), names.items(), strict=True):
        assert (post.images[0].name, post.images[0].ok) == (name, written != "7"), written
    rows = [{"tokens": ["Hi"], "images": [written]} for written in names]
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    posts = read_file(path, SourceConfig(format="jsonl"), "train", ImageFolder(place))
    found = {written: post.images[0] for written, post in zip(names, posts, strict=True)}
    assert {written: image.name for written, image in found.items()} == {**names, "7": "7"}
    (place / "loop").symlink_to("loop")
    assert next(iter(read(folder, "3"))).images[0].ok


def test_the_given_id_is_kept_where_ours_differs(folder):
    found = [(post.source_id, post.id) for post in read(folder, "55/2", "55", "55")]
    assert found == [("55/2", "55_2"), (None, "55"), ("55", "55~2")]


def source(**values):
    return SourceConfig(files={"train": "a.txt"}, **values)


def splits(folder, config):
    posts = read_dataset(config, {"train": folder / "a.txt"}, ImageFolder(None))
    return {post.id: post.split for post in posts}


def test_a_dev_split_is_cut_by_ids_and_does_not_move_when_posts_are_added(folder):
    conll(folder, *map(str, range(1000)))
    before = splits(folder, source(split={"dev": 0.1}))
    assert 70 < sum(split == "dev" for split in before.values()) < 130
    assert splits(folder, source(split={"dev": 0.1, "seed": 1})) != before
    larger = splits(folder, source(split={"dev": 0.2}))
    assert all(larger[name] == "dev" for name, split in before.items() if split == "dev")
    conll(folder, "new", *map(str, range(999, -1, -1)), "7")
    after = splits(folder, source(split={"dev": 0.1}))
    assert {name: after[name] for name in before} == before
    assert after["7~2"] == after["7"], "posts of one id stay together"


def test_bad_posts_are_left_out_with_their_lines_where_the_log_takes_them(folder):
    errors = []
    path = folder / "a.txt"
    path.write_bytes(
        b"IMGID:1\nHi\tO\nyou\n\nIMGID:2\nna\xefve\tO\n\nIMGID:" + b"x" * 201 + b"\nHi\tO\n\nIMGID:3\nHi\tO\n"
    )
    log = ReadLog(errors.append)
    assert [post.id for post in read_file(path, SourceConfig(), "predict", log=log)] == ["3"]
    assert [error.where.rpartition(":")[2] for error in errors] == ["3", "6", "8"]
    assert (log.n_left_out, str(errors[1])) == (
        3,
        f"{path}:6: not UTF-8 (found byte 0xef at 2); save the file as UTF-8",
    )


def test_labels_that_do_not_fit_are_left_out_and_counted_where_the_log_says_so(folder):
    path, log = folder / "a.txt", ReadLog(foreign_labels=True)
    path.write_text("Hi\tB-GPE\n\nyou\tS-PER\n\nAnn\tB-PER\n")
    tags = [post.tags for post in read_file(path, SourceConfig(), "predict", log=log)]
    assert (tags, log.n_without_gold, log.unknown) == ([None, None, ("B-PER",)], 2, {"B-GPE": 1, "S-PER": 1})
    rows = [
        {"text": "Ann", "entities": [{"start": 0, "end": 3, "type": "GPE"}]},
        {"text": "Ann", "entities": [{"start": 0, "end": 2, "type": "PER"}]},
        {"tokens": ["Ann"], "ner_tags": ["B-PER"]},
        {"tokens": ["Ann"], "labels": [3]},
        {"tokens": ["Ann"], "labels": ["B-PER"]},
    ]
    path, log = folder / "a.jsonl", ReadLog(foreign_labels=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tags = [post.tags for post in read_file(path, SourceConfig(format="jsonl"), "predict", log=log)]
    assert (tags, log.n_without_gold) == ([None, None, None, None, ("B-PER",)], 4)


def test_a_file_of_texts(folder):
    path, errors = folder / "a.txt", []
    path.write_text("Ann in Rome\n\nHi\n", encoding="utf-8")
    found = list(read_file(path, SourceConfig(format="text"), "predict", log=ReadLog(errors.append)))
    assert [(post.id, post.words) for post in found] == [("1", ("Ann", "in", "Rome")), ("3", ("Hi",))]
    assert [str(error) for error in errors] == [f"{path}:2: this text has no words (found ''); remove the post"]
