import hashlib
import json

import pytest

from cache.tables import read_posts
from pipeline.corpus import stage as ingest_stage
from pipeline.corpus.config import PRESETS as SOURCES
from pipeline.corpus.config import SourceConfig
from schema.errors import ConfigError
from synthetic import draw
from synthetic.draw import PRESETS, Ceilings, DrawConfig, read_gold, run
from synthetic.posts import BLOCK, draft
from synthetic.scenes import compose, dataset_rng, holds, png_bytes

SMALL = DrawConfig(n_train=BLOCK, n_dev=0, n_test=BLOCK)


def digests(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "small"
    seen = []
    report = run(SMALL, folder, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2 * BLOCK, 2 * BLOCK)
    return folder, report


def test_ingest_reads_what_is_drawn(dataset, tmp_path):
    folder, _ = dataset
    config = SourceConfig.from_section(
        {"preset": "smoke", "files": {"train": "train.jsonl", "test": "test.jsonl"}}, "x", SOURCES
    )
    report = ingest_stage.run(config, folder, tmp_path / "posts.parquet")
    assert report.line("small") == "ingest small: 160 rows; images: 148 ok, 6 missing, 6 broken, 0 refused"
    found = read_posts(tmp_path / "posts.parquet")
    assert found.meta["synthetic"] is True
    gold = read_gold(folder)
    for post in found.posts:
        names = gold[post.id].names
        assert [post.tags[name.span.start] for name in names] == [f"B-{name.type}" for name in names]
        assert sum(tag.startswith("B-") for tag in post.tags) == len(names)
        assert post.images[0].state == gold[post.id].image
    rows = {title: figures for title, *figures in report.rows()}
    assert rows["PER person"] == rows["LOC location"] == rows["ORG organization"] == ["30", "30"]


def test_each_cue_is_true_of_its_object_alone(dataset):
    for post in read_gold(dataset[0]).values():
        objects = (*post.names, *post.others)
        boxes = [item.box for item in objects]
        for index, item in enumerate(objects):
            if item.cue:
                assert [holds(item.cue, other, boxes) for other in range(len(boxes))] == [
                    other == index for other in range(len(boxes))
                ]


def test_ceilings_are_written_and_printed(dataset):
    folder, report = dataset
    assert report.ceilings["test"] == Ceilings(text=157 / 360, images=224 / 232)
    assert json.loads((folder / "ceilings.json").read_text())["test"] == {"text": 157 / 360, "images": 224 / 232}
    assert report.line("small") == (
        "draw small: 160 posts; F1 ceiling on test: 0.4361 from text alone, 0.9655 with images"
    )


def test_posts_have_the_same_bytes_whatever_is_drawn_beside_them(dataset, tmp_path):
    folder = dataset[0]
    (tmp_path / "again").mkdir()
    (tmp_path / "again/old").touch()  # an older one is replaced
    run(DrawConfig(n_train=0, n_dev=0, n_test=BLOCK), tmp_path / "again")
    first, again = digests(folder), digests(tmp_path / "again")
    tests = {name: digest for name, digest in first.items() if "test" in name}
    assert {name: digest for name, digest in again.items() if "test" in name} == tests
    assert set(again) == {*tests, "gold.jsonl", "ceilings.json"}


def test_another_seed_is_another_dataset():
    posts = [draft(seed, "test", 0) for seed in (0, 1)]
    pil_images = [png_bytes(compose(dataset_rng(seed, posts[0].number), posts[0].objects)) for seed in (0, 0, 1)]
    assert posts[0].words != posts[1].words
    assert pil_images[0] == pil_images[1] != pil_images[2]


def test_a_killed_drawing_leaves_the_old_folder(tmp_path, monkeypatch):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/old").touch()
    monkeypatch.setattr(draw, "png_bytes", lambda scene: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(DrawConfig(n_train=BLOCK, n_dev=0, n_test=0), tmp_path / "d")
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["old"]


def test_only_whole_blocks():
    with pytest.raises(ConfigError, match=r"draw\.smoke\.n_train: .*multiple of 80"):
        DrawConfig.from_section({"n_train": 500}, "draw.smoke", PRESETS)
    with pytest.raises(ConfigError, match=r"draw\.smoke\.n_tests: unknown key, did you mean n_test\?"):
        DrawConfig.from_section({"preset": "smoke", "n_tests": 80}, "draw.smoke", PRESETS)


def test_presets_are_small():
    assert PRESETS["smoke"].sizes == {"train": 480, "dev": 160, "test": 240}
    assert PRESETS["tiny"].sizes == {"train": 160, "dev": 80, "test": 80}
