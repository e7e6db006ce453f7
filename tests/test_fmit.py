"""The public API: what a run predicts from raw posts is what it predicted from the pack."""

import json
import os
import threading

import pytest

import fmit
from schema.errors import DataError, RunError, SyntheticError


def stored(project, split="dev"):
    lines = (project.run("own", "fmit", 0) / "scores" / f"predictions-{split}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def model(trained):
    return fmit.load(trained.run("own", "fmit", 0), device="cpu")


def test_raw_posts_give_what_the_pack_gave(trained, model):
    found = list(model.predict_file(trained.data("own") / "dev.jsonl", images=trained.images("own")))
    for new, old in zip(found, stored(trained), strict=True):
        got = new.to_json()
        assert got["objects"] == old["objects"]
        assert [(e["start"], e["end"], e["type"]) for e in got["entities"]] == [
            (e["start"], e["end"], e["type"]) for e in old["entities"]
        ]
        confidences = [e["confidence"] for e in got["entities"]]
        assert confidences == pytest.approx([e["confidence"] for e in old["entities"]], abs=1e-4)


def test_a_pipe_is_read_once(trained, model, tmp_path):
    file, pipe = trained.data("own") / "dev.jsonl", tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(file.read_bytes()), daemon=True)
    writer.start()
    found = [one.post.id for one in model.predict_file(pipe, format="jsonl")]
    assert found == [one.post.id for one in model.predict_file(file)] != []


def test_texts_rows_and_records_mix(trained, model):
    rows = ["Ann in Rome", {"id": "x", "tokens": ["Hi", "Bob"]}]
    first, second = model.predict(rows)
    assert (first.post.id, first.post.words) == ("1", ("Ann", "in", "Rome"))
    assert (second.post.id, second.post.split) == ("x", "predict")
    (again,) = model.predict([second.post])
    assert (again.post, again.tags, again.objects) == (second.post, second.tags, second.objects)


def test_many_posts_stream(trained, model):
    def endless():
        number = 0
        while True:
            number += 1
            yield f"post {number}"

    found = model.predict(endless())
    assert [next(found).post.id for _ in range(40)] == [str(number) for number in range(1, 41)]


def test_a_repeated_id_is_made_unique(model):
    assert [one.post.id for one in model.predict([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}])] == ["a", "a~2"]


def test_a_run_remembers_how_its_posts_were_written(trained):
    model = fmit.load(trained.run("own", "fmit", 0), device="cpu")
    model.run.info.data["source"] = {"tokenizer": "characters", "scheme": "bioes", "fields": {"labels": "ner"}}
    text, tagged = model.predict(["安在罗马", {"tokens": ["Ann"], "ner": ["S-PER"]}])
    assert text.post.words == ("安", "在", "罗", "马")
    assert tagged.post.tags == ("B-PER",)


def test_bad_rows_are_placed(model):
    with pytest.raises(DataError, match="posts:2: a post has either tokens or text"):
        list(model.predict(["fine", {"id": "b"}]))


def test_the_synthetic_grounder_refuses_photographs(trained, tmp_path):
    import PIL.Image

    PIL.Image.new("RGB", (64, 48), "red").save(tmp_path / "a.png")
    row = {"text": "the left Ann", "images": ["a.png"]}
    run = trained.run("own", "fmit", 0)
    with pytest.raises(
        SyntheticError, match=r"synthetic-grounder was trained on drawings, and the project did not draw a.png"
    ):
        list(fmit.load(run, device="cpu").predict([row], images=tmp_path))
    (found,) = fmit.load(run, device="cpu", allow_synthetic=True).predict([row], images=tmp_path)
    assert found.to_json()["objects"]


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(RunError, match="no such run"):
        fmit.load(tmp_path / "nothing")


def test_a_wrong_folder_of_images_is_no_silence(trained, model, tmp_path):
    posts = trained.data("own") / "dev.jsonl"
    for call in (lambda at: model.predict([], images=at), lambda at: model.predict_file(posts, images=at)):
        with pytest.raises(
            DataError,
            match=r"nowhere: the image folder does not exist; give another folder, or None to use only the text",
        ):
            list(call(tmp_path / "nowhere"))
    (found,) = model.predict([{"text": "hi", "images": ["a.png"]}], images=tmp_path)
    assert [image.state for image in found.post.images] == ["missing"]


def test_a_run_on_the_grid_predicts_raw_posts(trained, tmp_path):
    from cache import tables
    from tests.pipeline.test_feature_pipeline import with_grid

    pack = with_grid(trained, tmp_path)
    list(trained.train("own", "fmit-no-obj", 0, pack=pack.folder, out=tmp_path / "run", device="cpu"))
    model = fmit.load(tmp_path / "run", device="cpu")
    posts = [post for post in tables.read_posts(trained.out("own", "posts.parquet")).posts if post.split == "dev"]
    before = model.run.predict(posts, pack.grid)
    for new, old in zip(model.predict(posts, trained.images("own")), before, strict=True):
        assert (new.tags, new.objects) == (old.tags, old.objects)
        assert [one.confidence for one in new.entities] == pytest.approx(
            [one.confidence for one in old.entities], abs=1e-3
        )
        assert len(new.objects) == 4 * sum(image.ok for image in new.post.images)
