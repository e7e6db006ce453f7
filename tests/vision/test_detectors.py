"""torchvision's detectors from weight files in torchvision's layout."""

import PIL.Image
import pytest
import torch
from torchvision.models.detection import FasterRCNN, anchor_utils, backbone_utils
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.resnet import resnet50
from torchvision.ops import misc

from schema.errors import WeightsError
from vision.detectors import load_detector


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Faster R-CNN as torchvision makes it for its published weights: frozen batch norm, epsilon 0."""
    torch.manual_seed(0)
    backbone = resnet50(weights=None, norm_layer=misc.FrozenBatchNorm2d)
    network = FasterRCNN(backbone_utils._resnet_fpn_extractor(backbone, 3), num_classes=91).eval()
    overwrite_eps(network, 0.0)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
    network.roi_heads.score_thresh = 0.0
    path = tmp_path_factory.mktemp("weights") / "fasterrcnn.pth"
    torch.save(network.state_dict(), path)
    assert isinstance(network.rpn.anchor_generator, anchor_utils.AnchorGenerator)
    return network, path


def test_detections_equal_torchvisions(published):
    network, path = published
    network.roi_heads.score_thresh = 0.05
    detector = load_detector("fasterrcnn_resnet50_fpn", path)
    image = PIL.Image.effect_noise((90, 60), 80).convert("RGB")
    pixels = detector.prepare(image)
    with torch.inference_mode():
        (expected,) = network([pixels.float() / 255])
        found = detector.detect(pixels, image.size)
    torch.testing.assert_close(found.boxes, expected["boxes"])
    torch.testing.assert_close(found.scores, expected["scores"])
    assert detector.classes[1] == "person"
    assert len(detector.classes) == 91


def test_other_weights_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: not the weights of torchvision's retinanet_resnet50_fpn"):
        load_detector("retinanet_resnet50_fpn", tmp_path / "other.pth")
