"""Real photographs all the way: decoded, parsed, grounded, featured, trained on, predicted, and looked at in a browser.

What the page shows is compared with `boxes.parquet` pixel by pixel: a box is on the screen where the table has it.
"""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import torchvision.models
from click.testing import CliRunner

import cli
from cache import tables
from tests.browser import CHROMIUM, Browser
from tests.imports import ROOT

PHOTOS = ROOT / "../shared/data/photos"
pytestmark = [
    pytest.mark.skipif(
        not PHOTOS.is_dir(), reason="the photographs are not beside this folder (../shared/data/photos)"
    ),
    pytest.mark.timeout(1800),
]
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
PARAMS = """
datasets: [photos, whole]
train_on: [photos, whole]
approaches: [fmit]
seeds: [0]
evaluate: {{splits: [test]}}
data:
  photos:
    source: {{preset: conll}}
    phrases: {{preset: embedded}}
    ground: {{preset: embedded}}
    regions: {{preset: tiny}}
    train: {{preset: tiny, epochs: 1}}
  whole:
    source: {{preset: conll}}
    phrases: {{preset: embedded}}
    ground: {{grounder: whole-image}}
    regions: {{net: {net}, weights: {net}-random.pth, batch: 8, workers: 0, n_buckets: 4}}
    train: {{preset: tiny, epochs: 1}}
"""
STROKE_PX = 4.0  # half of a box's halo, and what smoothing and rounding add


def posts() -> list[str]:
    """The hand-written posts, as they stand in their file."""
    return (PHOTOS / "test.txt").read_text(encoding="utf-8").strip().split("\n\n")


def make(root: Path, net: str, n_train: int, n_dev: int, n_test: int) -> None:
    """Two datasets of the same posts and photographs, and weights in torchvision's format, drawn at random."""
    (root / "params.yaml").write_text(PARAMS.format(net=net))
    torch.manual_seed(0)
    torch.save(getattr(torchvision.models, net)(weights=None).state_dict(), root / f"{net}-random.pth")
    found = iter(posts())
    blocks = {
        name: [next(found) for _ in range(n)] for name, n in (("train", n_train), ("valid", n_dev), ("test", n_test))
    }
    for dataset in ("photos", "whole"):
        folder = root / "data" / dataset
        folder.mkdir(parents=True)
        (folder / "images").symlink_to((PHOTOS / "images").resolve())
        for name, some in blocks.items():
            (folder / f"{name}.txt").write_text("\n\n".join(some) + "\n")


def fmit(*arguments: object) -> str:
    result = CliRunner().invoke(cli.main, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def walk(root: Path, dataset: str) -> list[dict]:
    """All stages, training, scores, prediction of the test posts as if they were new, and the report."""
    fmit("ingest", dataset)
    for stage in ("phrases", "ground", "regions"):
        fmit(stage, dataset)
    run = root / "runs" / f"{dataset}-fmit-0"
    fmit("train", "--dataset", dataset, "-q")
    fmit("evaluate", "--run", run)
    new = root / f"{dataset}.jsonl"
    folder = root / "data" / dataset
    fmit("predict", folder / "test.txt", "--run", run, "--images", folder / "images", "--out", new)
    fmit("report", "--run", run, "--out", root / f"{dataset}.html")
    return [json.loads(line) for line in new.read_text().splitlines()]


def check(root: Path, dataset: str, predicted: list[dict], n_test: int) -> None:
    """Every photograph is seen, every box lies in its image, and new posts get what the stages gave."""
    table = {post.id: post for post in tables.read_posts(root / "out" / dataset / "posts.parquet").posts}
    assert {image.state for post in table.values() for image in post.images} == {"ok"}
    boxes, _ = tables.read_boxes(root / "out" / dataset / "boxes.parquet")
    for post_id, regions in boxes.items():
        for one in regions:
            image = table[post_id].images[one.box.image_index]
            assert one.box.x1 <= image.width
            assert one.box.y1 <= image.height
    stored = (root / f"runs/{dataset}-fmit-0/scores/predictions-test.jsonl").read_text().splitlines()
    assert len(predicted) == len(stored) == n_test
    for new, old in zip(predicted, map(json.loads, stored), strict=True):
        assert new["objects"] == old["objects"]
        assert new["synthetic"] is old["synthetic"] is False
    page = (root / f"{dataset}.html").read_text()
    assert "Synthetic models." not in page


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FMIT_STORE", raising=False)
    return tmp_path


def test_a_few_photographs_by_the_embedded_parts_and_by_a_resnet(project):
    make(project, "resnet18", 2, 1, 2)
    for dataset in ("photos", "whole"):
        check(project, dataset, walk(project, dataset), 2)
    boxes, _ = tables.read_boxes(project / "out" / "photos" / "boxes.parquet")
    phrases = [[region.box for region in regions if region.source == "phrase"] for regions in boxes.values()]
    assert any(len(set(of_post)) > 1 for of_post in phrases), "phrases differ in their boxes"
    if CHROMIUM:
        for dataset in ("photos", "whole"):
            assert compare_with_the_table(project, dataset, per_post=2) >= 4


@pytest.mark.long
@needs_chromium
def test_all_photographs_by_the_embedded_parts_and_by_resnet152(project):
    make(project, "resnet152", 12, 4, 7)
    for dataset in ("photos", "whole"):
        check(project, dataset, walk(project, dataset), 7)
        assert compare_with_the_table(project, dataset, per_post=20) > 30


def compare_with_the_table(root: Path, dataset: str, per_post: int) -> int:
    """Show one box at a time, and see where the screen changes; returns how many boxes were compared."""
    grounded, _ = tables.read_boxes(root / "out" / dataset / "boxes.parquet")
    sizes = {post.id: post.images for post in tables.read_posts(root / "out" / dataset / "posts.parquet").posts}
    n_compared = 0
    with Browser() as browser:
        browser.size(1280, 900)
        browser.open(root / f"{dataset}.html")
        browser.run("Promise.all([...document.images].map(image => image.decode()))")
        for at, post_id in enumerate(
            browser.run("[...document.querySelectorAll('.card h3 a')].map(n => n.textContent)")
        ):
            wanted = grounded.get(post_id, [])
            shown = browser.run(f"document.querySelectorAll('.card')[{at}].querySelectorAll('rect[data-box]').length")
            assert shown == len(wanted)
            for index, one in enumerate(wanted[-per_post:], len(wanted) - min(per_post, len(wanted))):
                frame, changed = on_screen(browser, root, at, index)
                image = sizes[post_id][one.box.image_index]
                scale = np.array([frame["width"] / image.width, frame["height"] / image.height] * 2)
                corners = np.array(one.box.xyxy) * scale + np.array([frame["left"], frame["top"]] * 2)
                assert np.abs(changed - corners).max() < STROKE_PX, (post_id, one, changed, corners)
                n_compared += 1
        assert browser.console == []
    return n_compared


def on_screen(browser: Browser, root: Path, card: int, index: int) -> tuple[dict, np.ndarray]:
    """The image's place, and x0, y0, x1, y1 of what the screen shows only when box `index` is drawn."""
    find = f"document.querySelectorAll('.card')[{card}]"
    browser.run(f"{find}.querySelector('.frame').scrollIntoView({{block: 'center'}})")
    box = f'rect.matches(\'[data-box="{index}"], [data-halo="{index}"]\')'
    for _ in range(10):
        bare, drawn, again = (drawing(browser, root / "shot.png", find, which) for which in ("false", box, "false"))
        if np.array_equal(bare, again):  # else the photograph itself was drawn more finely meanwhile
            break
    rows, columns = np.nonzero(np.abs(drawn - bare).max(axis=2) > 8)
    browser.run(f"for (const rect of {find}.querySelectorAll('rect')) rect.style.display = ''")
    frame = browser.run(f"{find}.querySelector('.frame').getBoundingClientRect().toJSON()")
    return frame, np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def drawing(browser: Browser, path: Path, card: str, which: str) -> np.ndarray:
    """The screen with those of a card's boxes for which the condition `which` holds."""
    browser.run(f"for (const rect of {card}.querySelectorAll('rect')) rect.style.display = {which} ? '' : 'none'")
    return settled(browser, path)


def settled(browser: Browser, path: Path) -> np.ndarray:
    """The screen once it stays as it is: a photograph that just came into view is drawn roughly first."""
    seen = np.zeros(0)
    for _ in range(20):
        browser.screenshot(path)
        now = np.asarray(PIL.Image.open(path).convert("RGB")).astype(int)
        if np.array_equal(seen, now):
            return now
        seen = now
    raise AssertionError("the screen does not come to rest")
