"""Posts with two images, one or none go the whole way, broken ones among them; bad images are named and counted."""

import json
import re

import pytest

import fmit
import pages
from cache.packs import Pack
from cache.tables import read_boxes, read_phrases, read_posts
from pipeline.engine import silent
from project import Project
from tests import own
from tests.vision.bad_images import write as write_bad

SPLITS = ("train", "dev", "test")


def images_of(number: int, names: list[str]) -> list[str]:
    """None, two, one of two that is not there, the same one twice, one: in turn."""
    other = names[(number + 1) % len(names)]
    return ([], [names[number], other], ["gone.png", names[number]], [other, other], [names[number]])[number % 5]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("images")
    folder = root / "data" / "own"
    (root / "params.yaml").write_text(own.PARAMS)
    own.write_posts(folder, own.SIZES)
    names = sorted(path.name for path in (folder / "images").iterdir())
    for split in SPLITS:
        rows = [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]
        for number, row in enumerate(rows):
            row["images"] = images_of(number, names)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = Project.open(root / "params.yaml")
    for stage in (made.ingest, made.phrases, made.ground, made.regions):
        stage("own", silent)
    return made


def test_objects_of_every_image_in_the_lattice_s_order(project: Project) -> None:
    table = read_posts(project.out("own", "posts.parquet"))
    parsed = {one.post_id: one.phrases for one in read_phrases(project.out("own", "phrases.parquet"))[0]}
    boxes, words = read_boxes(project.out("own", "boxes.parquet"))[0], table.labels.general_words
    pack, seen = Pack(project.pack("own")), set()
    for post in table.posts:
        shown = [index for index, image in enumerate(post.images) if image.ok]
        seen.add((len(post.images), len(shown)))
        regions = pack.read(post.id).regions
        if not shown:
            assert [(one.source, one.box) for one in regions] == [("image", None)]
            continue
        heads = [(one.source, one.text, one.box.image_index) for one in regions if one.source != "phrase"]
        assert heads == [
            entry for at in shown for entry in (("image", "", at), *(("general", word, at) for word in words))
        ]
        spans = [one.span for one in regions if one.source == "phrase"]
        assert spans == sorted({phrase.span for phrase in parsed[post.id]})
        for region in regions:
            if region.source == "phrase":
                (box,) = [one for one in boxes[post.id] if one.span == region.span]
                assert (region.box, region.score) == (box.box, pytest.approx(box.score))
                assert region.box.image_index in shown, "the best image of the post, none that is not there"
    assert seen == {(0, 0), (2, 2), (2, 1), (1, 1)}


def test_the_same_image_twice_answers_alike(project: Project) -> None:
    pack = Pack(project.pack("own"))
    posts = read_posts(project.out("own", "posts.parquet")).posts
    twice = [one for one in posts if len(one.images) == 2 and one.images[0] == one.images[1]]
    assert twice
    for post in twice:
        objects = pack.read(post.id)
        at = {index: [k for k, one in enumerate(objects.regions) if one.box.image_index == index and not one.span]
              for index in (0, 1)}  # fmt: skip
        assert (objects.features[at[0]] == objects.features[at[1]]).all()


def test_training_scores_report_and_prediction(project: Project) -> None:
    run = project.run("own", "fmit", 0)
    list(project.train("own", "fmit", 0, device="cpu"))
    metrics = project.evaluate(run, ["dev", "test"], device="cpu")
    assert set(metrics) >= {"dev", "test"}
    scored = (run / "scores" / "predictions-dev.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(scored) == own.SIZES["dev"], "no post is dropped"
    pages.report(project, run)
    page = (run / "report.html").read_text(encoding="utf-8")
    posts = {one.id: one for one in read_posts(project.out("own", "posts.parquet")).posts if one.split == "dev"}
    assert all(post_id in page for post_id in posts)
    names = sorted(path.name for path in project.images("own").iterdir())
    asked = [
        {"id": "two", "text": "Ann Lee and Rex at the harbour", "images": names[:2]},
        {"id": "none", "text": "Ann Lee in Genoa"},
        {"id": "gone", "text": "Rex again", "images": ["gone.png", names[0]]},
    ]
    found = list(fmit.load(run, allow_synthetic=True).predict(asked, images=project.images("own")))
    assert [one.post.id for one in found] == ["two", "none", "gone"]
    indices = [{region.box.image_index for region in one.objects if region.box} for one in found]
    assert indices == [{0, 1}, set(), {1}]


def test_bad_images_are_named_and_counted_by_ingest(tmp_path) -> None:
    (tmp_path / "params.yaml").write_text(own.PARAMS.replace("preset: jsonl", "preset: jsonl, files: {train: t.jsonl}"))
    folder = tmp_path / "data" / "own"
    folder.mkdir(parents=True)
    bad = {name: wanted for name, wanted in write_bad(folder).items() if name and "\ud800" not in name}
    assert len(bad) >= 40
    rows = [{"id": f"p{k}", "tokens": ["Hi"], "images": [name]} for k, name in enumerate(bad)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    project = Project.open(tmp_path / "params.yaml")
    report = project.ingest("own", silent)
    posts = read_posts(project.out("own", "posts.parquet")).posts
    for post, (name, (state, reason)) in zip(posts, bad.items(), strict=True):
        (image,) = post.images
        assert image.state == state, name
        assert re.search(reason, image.reason), name
    for state in ("ok", "missing", "broken", "refused"):
        assert report.counts.images(state) == sum(one == state for one, _ in bad.values())
