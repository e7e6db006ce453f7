"""Forward passes that run at once: order, threads, and rows that depend on neither."""

import threading

import pytest
import torch

from pipeline.grounding import stage as ground
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.registry import open_grounder
from pipeline.passes import run_passes
from pipeline.regions import stage as regions
from pipeline.regions.config import RegionsConfig, open_net
from schema.records import Box
from tests.pipeline.drawn import make_image


@pytest.fixture
def threads():
    """Sets torch's number of threads; the former number comes back after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_each_pass_has_its_share_of_the_threads(threads):
    threads(4)
    both = threading.Barrier(2, timeout=30)

    def work(item):
        both.wait()  # fails unless two passes run at once
        return item, torch.get_num_threads(), threading.get_ident()

    found = list(run_passes(work, iter(range(8)), 2))
    assert [(item, n) for item, n, _ in found] == [(item, 2) for item in range(8)]
    assert threading.get_ident() not in {thread for _, _, thread in found}
    assert torch.get_num_threads() == 4
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [4], "threads that start later have the former number"


@pytest.mark.parametrize(("n_threads", "n_max", "items"), [(1, 4, range(3)), (4, 1, range(3)), (4, 4, [7]), (4, 0, [])])
def test_one_at_a_time_runs_in_the_callers_thread_with_all_threads(threads, n_threads, n_max, items):
    threads(n_threads)
    found = list(run_passes(lambda item: (item, torch.get_num_threads(), threading.get_ident()), items, n_max))
    assert found == [(item, n_threads, threading.get_ident()) for item in items]


def test_an_error_restores_the_threads(threads):
    threads(2)
    with pytest.raises(ZeroDivisionError):
        list(run_passes(lambda item: 1 / item, iter([1, 0, 2]), 2))
    assert torch.get_num_threads() == 2


def rows_of_regions(folder, images):
    config = RegionsConfig(crop_px=64, resize_px=64, batch=2)
    net = open_net(config)
    boxes = [box for image in images for box in (Box(0, 0, image.width, image.height), Box(3, 2, 20, 19))]
    crops = {str(at): regions.Crop(images[at // 2], box) for at, box in enumerate(boxes)}
    return {key: row.tobytes() for key, row in regions.compute(crops, net, config, folder)}


def rows_of_boxes(folder, images):
    grounder = open_grounder(GroundConfig())
    texts = ("person", "place", "a red car", "the dogs", "Paris")
    queries = {f"{image.name} {text}": ground.Query(image, text) for image in images for text in texts}
    return dict(ground.compute(queries, grounder, folder, 2))


@pytest.mark.parametrize("rows", [rows_of_regions, rows_of_boxes])
def test_rows_do_not_depend_on_the_number_of_threads(tmp_path, threads, rows):
    images = [make_image(tmp_path, f"{at}.png", 90 + 7 * at, 64, seed=at) for at in range(7)]
    found = []
    for n in (1, 2, 4):
        threads(n)
        found.append(rows(tmp_path, images))
    assert found[0] == found[1] == found[2]
    assert len(set(map(str, found[0].values()))) > len(images)
