"""Posts and boxes to the pack: bytes that depend on the posts alone, through kills, stores and added posts."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from cache import tables
from cache.packs import Pack
from pipeline.engine import Tally
from pipeline.regions import stage as regions_stage
from pipeline.regions.config import RegionsConfig, open_net
from schema.errors import ConfigError
from tests.pipeline.drawn import LABELS, by_post, chosen, make_image, phrases, post
from tests.vision.bad_images import write as write_bad
from vision import images

ROOT = Path(__file__).parents[3]
BEFORE = {"phrases": {"config": {}, "identity": {"name": "p"}, "synthetic": False}, "n_cut": 0}


def dataset(folder, n_posts):
    """Posts with two boxes each, every fifth without an image; the tables that regions reads."""
    posts, boxes = [], []
    for k in range(n_posts):
        here = [make_image(folder / "images", f"{k}.png", 40, 30, seed=k)] if k % 5 else []
        posts.append(post(f"p{k}", *here))
        boxes += [(f"p{k}", chosen(word, (k % 20, 3, k % 20 + 9, 20))) for word in LABELS.general_words if here]
    write(folder, posts, boxes)
    return posts, boxes


def write(folder, posts, boxes):
    tables.write_posts(folder / "posts.parquet", posts, LABELS, {})
    tables.write_boxes(folder / "boxes.parquet", by_post(boxes).items(), BEFORE)


def config(**more):
    settings = {"crop_px": 32, "resize_px": 32, "batch": 4, "workers": 1, "n_buckets": 8, "device": "cpu"}
    return RegionsConfig(**settings | more)


def run(folder, settings, out="pack", **more):
    inputs = folder / "posts.parquet", folder / "boxes.parquet", folder / "images"
    return regions_stage.run(settings, *inputs, folder / out, folder / "store", **more)


def contents(pack):
    return {path.name: path.read_bytes() for path in sorted(pack.iterdir()) if path.is_file()}


def test_pack(tmp_path):
    posts, _ = dataset(tmp_path, 6)
    settings = config()
    assert run(tmp_path, settings) == Tally("regions", 9, 9)
    pack = Pack(tmp_path / "pack")
    assert pack.verify() == []
    assert pack.ids == sorted(one.id for one in posts)
    assert (pack.meta.dim, pack.meta.dtype, pack.meta.n_buckets, pack.meta.synthetic) == (1280, "float32", 8, False)
    assert pack.meta.general_words == ("person", "place")
    assert pack.meta.provenance["phrases"] == BEFORE["phrases"]
    made = pack.meta.provenance["regions"]
    assert (made["config"]["weights"], made["identity"]["name"], made["synthetic"]) == (
        "embedded",
        "efficientnet-lite2",
        False,
    )
    assert "n_cut" not in pack.meta.provenance, "nothing that changes when a post does"
    assert str(tmp_path) not in (tmp_path / "pack" / "meta.json").read_text()
    assert [len(pack.read(f"p{k}").regions) for k in range(6)] == [1, 3, 3, 3, 3, 1]
    net = open_net(settings)
    whole = PIL.Image.open(tmp_path / "images" / "3.png").convert("RGB")
    wanted = net.forward(net.transform.pixels(whole)[None])[0]
    assert np.allclose(pack.read("p3").features[0], wanted, atol=1e-5)


def test_a_rerun_computes_nothing_and_gives_the_same_bytes(tmp_path):
    posts, boxes = dataset(tmp_path, 6)
    settings = config()
    run(tmp_path, settings)
    before = contents(tmp_path / "pack")
    shutil.rmtree(tmp_path / "pack")
    assert run(tmp_path, settings).line("d") == "regions d: 9 rows, 0 computed, 9 from store"
    assert contents(tmp_path / "pack") == before
    shutil.rmtree(tmp_path / "store")
    write(tmp_path, posts[::-1], boxes[::-1])
    assert run(tmp_path, config(workers=3)).n_computed == 9
    assert contents(tmp_path / "pack") == before, "the store is no result, the order of posts is none"


def test_one_post_added_changes_one_file(tmp_path):
    posts, boxes = dataset(tmp_path, 6)
    settings = config()
    run(tmp_path, settings)
    before = contents(tmp_path / "pack")
    more = post("new", make_image(tmp_path / "images", "new.png", seed=99))
    write(tmp_path, [more, *posts], boxes + [("new", chosen(word, (1, 1, 9, 9))) for word in LABELS.general_words])
    assert run(tmp_path, settings).n_computed == 2
    after = contents(tmp_path / "pack")
    assert len([name for name in after if after[name] != before[name]]) == 1


def test_the_grid_is_a_pack_in_the_pack(tmp_path):
    posts, _ = dataset(tmp_path, 6)
    run(tmp_path, config())
    assert Pack(tmp_path / "pack").grid is None, "off by default"
    before, digest = contents(tmp_path / "pack"), Pack(tmp_path / "pack").digest()
    assert run(tmp_path, config(grid=True)) == Tally("regions", 9 + 4, 4)
    pack = Pack(tmp_path / "pack")
    assert (contents(tmp_path / "pack"), pack.digest()) == (before, digest), "nothing else changes"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["images", "pack", "store"]
    grid = pack.grid
    assert grid.ids == sorted(image.digest for one in posts for image in one.images)
    assert grid.read(posts[1].images[0].digest).features.shape == (1, 1280)
    assert grid.meta.provenance["regions"] == pack.meta.provenance["regions"]
    assert (grid.meta.dtype, grid.meta.synthetic) == ("float16", False)
    run(tmp_path, config())
    assert Pack(tmp_path / "pack").grid is None, "and off again"


def test_one_image_more_changes_one_file_of_pack_and_grid_each(tmp_path):
    posts, boxes = dataset(tmp_path, 6)
    settings = config(grid=True)
    run(tmp_path, settings)
    before, before_grid = contents(tmp_path / "pack"), contents(tmp_path / "pack" / "grid")
    more = post("new", make_image(tmp_path / "images", "new.png", seed=99))
    write(tmp_path, [more, *posts], boxes + [("new", chosen(word, (1, 1, 9, 9))) for word in LABELS.general_words])
    assert run(tmp_path, settings).n_computed == 3
    after, after_grid = contents(tmp_path / "pack"), contents(tmp_path / "pack" / "grid")
    assert len([name for name in after if after[name] != before[name]]) == 1
    assert len([name for name in after_grid if after_grid[name] != before_grid[name]]) == 1


def test_no_image_as_in_the_paper_reads_the_phrases(tmp_path):
    dataset(tmp_path, 2)
    tables.write_phrases(tmp_path / "phrases.parquet", [phrases("p0", (0, 3))], {})
    settings = config(no_image="paper")
    run(tmp_path, settings, phrases=tmp_path / "phrases.parquet")
    assert [one.text for one in Pack(tmp_path / "pack").read("p0").regions] == [
        "",
        "person",
        "place",
        "a tiny dog",
    ]
    with pytest.raises(ConfigError, match=r"no_image: paper needs the posts' phrases; give regions\.run the phrases"):
        run(tmp_path, settings)


KILLED = """
import sys, time
from pathlib import Path
from pipeline import engine
from pipeline.regions import stage as regions
from pipeline.regions.config import RegionsConfig
from vision.backbones import FeatureNet
engine.FLUSH_S, forward = 0.0, FeatureNet.forward
def slow(self, crops):
    time.sleep(0.15)
    return forward(self, crops)
FeatureNet.forward = slow
folder = Path(sys.argv[1])
config = RegionsConfig(crop_px=32, resize_px=32, batch=4, workers=1, n_buckets=8, device="cpu")
inputs = folder / "posts.parquet", folder / "boxes.parquet", folder / "images"
regions.run(config, *inputs, folder / "pack", folder / "store")
"""


def test_killed_in_the_middle_the_same_command_gives_the_same_bytes(tmp_path):
    dataset(tmp_path, 20)
    settings = config()
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, start_new_session=True, env=os.environ
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("store/**/*.h5"))) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "pack").exists()
    tally = run(tmp_path, settings)
    assert 0 < tally.n_computed < tally.n_rows == 33
    shutil.rmtree(tmp_path / "store")
    assert run(tmp_path, settings, "unbroken").n_computed == 33
    assert contents(tmp_path / "pack") == contents(tmp_path / "unbroken")


def test_forty_bad_images_go_through(tmp_path):
    """Probed as ingest does; each post has its objects, and the stage does not notice the bad ones."""
    expected = {name: state for name, (state, _) in write_bad(tmp_path).items() if "\ud800" not in name}
    posts = [post(f"p{k}", images.probe(tmp_path / "images", name)) for k, name in enumerate(expected)]
    boxes = [(one.id, chosen(word, (0, 0, 1, 1))) for one in posts for word in LABELS.general_words if one.images[0].ok]
    write(tmp_path, posts, boxes)
    run(tmp_path, config())
    pack = Pack(tmp_path / "pack")
    for one, state in zip(posts, expected.values(), strict=True):
        assert len(pack.read(one.id).regions) == (3 if state == "ok" else 1), one
