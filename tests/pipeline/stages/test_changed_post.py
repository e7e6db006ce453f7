"""What one changed post costs the regions stage: its own rows, and one file of the pack."""

import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from cache import tables
from cache.keys import digest_file
from cache.packs import bucket_name, bucket_of
from pipeline.engine import Tally
from pipeline.regions import stage as regions_stage
from pipeline.regions.config import RegionsConfig, open_net
from schema.records import Box, Image, Post, Region, Span, joined
from tests.cache.rows import stored_keys
from tests.pipeline.drawn import LABELS
from tests.vision.weights import torchvision_state
from vision import images

PHOTOS = Path(__file__).parents[4] / "shared/data/photos/images"
WORDS = ("a", "tiny", "dog", "in", "Paris")
N_OBJECTS = 1 + len(LABELS.general_words) + 2  # of a post: the image, general words, phrases


def save_image(path: Path, number: int, side: int) -> None:
    """A part of a photograph where there are some, else noise: no two alike."""
    rng = np.random.default_rng(number)
    photos = sorted(PHOTOS.iterdir()) if PHOTOS.is_dir() else []
    if not photos:
        PIL.Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(path)
        return
    with PIL.Image.open(photos[number % len(photos)]) as photo:
        x, y = (int(rng.integers(0, max(1, edge - side))) for edge in photo.size)
        photo.convert("RGB").crop((x, y, x + side, y + side)).rotate(number % 7, expand=False).save(path)


def make_post(folder: Path, number: int, side: int) -> tuple[Post, list[Region]]:
    path = folder / f"{number}.png"
    if not path.exists():
        save_image(path, number, side)
    image, rng = images.probe(folder, path.name), np.random.default_rng(number)
    text, offsets = joined(WORDS)
    post = Post(f"post-{number}", "train", WORDS, text, offsets, None, (image,))
    general = [box(image, rng, "general", word) for word in LABELS.general_words]
    spans = [box(image, rng, "phrase", "a tiny dog", Span(0, 3)), box(image, rng, "phrase", "Paris", Span(4, 5))]
    return post, general + spans


def box(image: Image, rng: np.random.Generator, source: str, text: str, span: Span | None = None) -> Region:
    x, y = int(rng.integers(0, image.width // 2)), int(rng.integers(0, image.height // 2))
    place = Box(x, y, x + image.width // 2, y + image.height // 2, 0)
    return Region(source, text, span, place, 0.5, False, "fake@1")


class Dataset:
    """Posts with their tables, store and pack in a folder."""

    def __init__(self, folder: Path, name: str, n_posts: int, side: int, **settings: int) -> None:
        self.folder, self._n_posts, self._side = folder, n_posts, side
        (folder / "images").mkdir()
        torch.save(torchvision_state(name), folder / "weights.pth")
        self.config = RegionsConfig(net=name, weights=str(folder / "weights.pth"), device="cpu", **settings)

    def run(self) -> tuple[Tally, float]:
        """The stage over today's images: its tally, and the processor's seconds."""
        made = [make_post(self.folder / "images", number, self._side) for number in range(self._n_posts)]
        tables.write_posts(self.folder / "posts.parquet", [post for post, _ in made], LABELS, {})
        tables.write_boxes(self.folder / "boxes.parquet", [(post.id, boxes) for post, boxes in made], {})
        inputs = [self.folder / name for name in ("posts.parquet", "boxes.parquet", "images", "pack", "store")]
        start = time.process_time()
        tally = regions_stage.run(self.config, *inputs)
        return tally, time.process_time() - start

    def change(self, number: int) -> None:
        """Another image for one post."""
        save_image(self.folder / "images" / f"{number}.png", self._n_posts + number, self._side)

    def files(self) -> dict[str, tuple[str, int]]:
        """Of each file of the pack: its bytes' digest, and its inode."""
        return {path.name: (digest_file(path), path.stat().st_ino) for path in (self.folder / "pack").iterdir()}

    def stored(self) -> set[str]:
        return set(stored_keys(self.folder / "store" / "regions"))


def check(dataset: Dataset, n_posts: int) -> tuple[float, float]:
    """First run, rerun, one changed post; returns the first run's and the last one's seconds."""
    total = n_posts * N_OBJECTS
    tally, first_s = dataset.run()
    assert tally == Tally("regions", total, total)
    before, rows = dataset.files(), dataset.stored()
    dataset.change(3)
    tally, again_s = dataset.run()
    assert tally == Tally("regions", total, N_OBJECTS)
    after = dataset.files()
    changed = bucket_name(bucket_of("post-3", dataset.config.n_buckets))
    assert {name for name in after if after[name][0] != before[name][0]} == {changed}
    assert {name for name in after if after[name][1] != before[name][1]} <= {changed, "meta.json"}, "the others stay"
    assert len(dataset.stored() - rows) == N_OBJECTS
    assert dataset.run()[0] == Tally("regions", total, 0)
    return first_s, again_s


def test_one_changed_post_computes_its_rows_and_rewrites_one_file(tmp_path):
    check(Dataset(tmp_path, "resnet18", 6, 64, crop_px=32, resize_px=32, batch=8, workers=0, n_buckets=4), 6)


@pytest.mark.long
def test_one_changed_post_of_400_costs_less_than_2_percent(tmp_path):
    """Beside what any run of the program costs: reading the weights and making the network."""
    dataset = Dataset(tmp_path, "resnet50", 400, 320, workers=2)
    start = time.process_time()
    open_net(dataset.config)
    begin_s = time.process_time() - start
    first_s, again_s = check(dataset, 400)
    print(f"first run {first_s:.1f} s, one changed post {again_s:.2f} s, of which the network {begin_s:.2f} s")
    assert again_s < 0.02 * first_s + begin_s
