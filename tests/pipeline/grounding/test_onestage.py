"""The network against the paper's plain form: one convolution over a concatenation, boxes one by one."""

import math

import torch
from torch.nn import functional as F

from pipeline.grounding.onestage.network import (
    Head,
    OneStage,
    QueryEncoder,
    Sizes,
    anchor_grid,
    coordinate_maps,
    small_network,
)

TINY = Sizes(
    size_px=64,
    stem=4,
    stem_stride=2,
    stages=((6, 0), (8, 1), (8, 1)),
    width=8,
    anchors=(((5.0, 7.0), (9.0, 9.0)), ((20.0, 15.0), (30.0, 40.0))),
)
PAPER = Sizes(
    size_px=256,
    stem=32,
    stem_stride=1,
    stages=((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)),
    width=512,
    anchors=(((10.0, 13.0),) * 3, ((30.0, 61.0),) * 3, ((116.0, 90.0),) * 3),
)


def _tiny(seed: int = 0) -> OneStage:
    torch.manual_seed(seed)
    return small_network(TINY, n_words=9).eval()


def test_sizes_of_the_maps_and_answers() -> None:
    network = _tiny()
    assert TINY.strides == (8, 16)
    seen = network.encode_images(torch.randn(3, 3, 64, 64))
    assert [tuple(x.shape) for x in seen] == [(3, 8, 8, 8), (3, 8, 4, 4)]
    answers = network(seen, torch.ones(3, 4, dtype=torch.long))
    assert answers.shape == (3, (64 + 16) * 2, 5)
    assert network.grid.shape == (160, 5)


def test_the_paper_s_sizes_give_darknet_53_at_512_channels_and_three_scales() -> None:
    with torch.device("meta"):
        network = small_network(PAPER, n_words=2)
    assert PAPER.strides == (8, 16, 32)
    convolutions = [m for m in network.backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 52 + 3  # Darknet-53 without its classifier, and three to the common width
    seen = network.encode_images(torch.empty(1, 3, 256, 256, device="meta"))
    assert [tuple(x.shape) for x in seen] == [(1, 512, 32, 32), (1, 512, 16, 16), (1, 512, 8, 8)]


def test_the_head_equals_one_convolution_over_the_concatenation() -> None:
    torch.manual_seed(1)
    head = Head(8, 2).eval()
    features, query = torch.randn(1, 8, 5, 5), torch.randn(1, 8)
    tiled = F.normalize(query, dim=1)[:, :, None, None].expand(1, 8, 5, 5)
    together = torch.cat([F.normalize(features, dim=1), tiled, coordinate_maps(features)], dim=1)
    weight = torch.cat([head.visual.weight, head.query.weight[:, :, None, None], head.coordinates.weight], dim=1)
    plain = head.answer(head.mixed(F.conv2d(together, weight)))
    assert weight.shape == (8, 8 + 8 + 8, 1, 1)
    answer = head(head.encode(features), query)
    for y, x, anchor in [(0, 0, 0), (4, 2, 1), (1, 3, 0)]:
        mine = answer[0, (y * 5 + x) * 2 + anchor]
        assert torch.allclose(mine, plain[0, anchor * 5 : anchor * 5 + 5, y, x], atol=1e-6)


def test_coordinates_of_a_cell() -> None:
    maps = coordinate_maps(torch.zeros(2, 3, 4, 8))
    assert maps.shape == (2, 8, 4, 8)
    expected = [
        2 * 2 / 8 - 1,
        2 * 1 / 4 - 1,
        2 * 3 / 8 - 1,
        2 * 2 / 4 - 1,
        2 * 2.5 / 8 - 1,
        2 * 1.5 / 4 - 1,
        1 / 8,
        1 / 4,
    ]
    assert torch.allclose(maps[1, :, 1, 2], torch.tensor(expected))


def test_boxes_by_hand() -> None:
    network = _tiny()
    answers = torch.zeros(1, 160, 5)
    k = 64 * 2 + (2 * 4 + 3) * 2 + 1  # second scale, row 2, column 3, second anchor
    answers[0, k, :4] = torch.tensor([math.log(3.0), 0.0, math.log(2.0), 0.0])  # sigmoid(log 3) = 0.75
    box = network.boxes(answers)[0, k]
    x, y = (3 + 0.75) * 16, (2 + 0.5) * 16
    assert torch.allclose(box, torch.tensor([x - 30, y - 20, x + 30, y + 20]))
    assert anchor_grid(TINY)[k].tolist() == [48, 32, 16, 30, 40]


def test_padding_and_order_do_not_change_a_query() -> None:
    torch.manual_seed(2)
    encoder = QueryEncoder(9, 8)
    a, b, c = (encoder(torch.tensor([ids])) for ids in ([3, 5], [5, 3, 0, 0], [3, 4]))
    assert torch.allclose(a, b)
    assert not torch.allclose(a, c)
