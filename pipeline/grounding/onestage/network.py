"""One-stage visual grounding (Yang et al., ICCV 2019): the network, with its sizes as arguments.

Darknet-like backbone whose last maps are brought to a common width from the top down. At every cell the visual vector,
the query vector (both L2-normalized) and eight coordinates pass through 1x1, 3x3 and 1x1 convolutions; each cell
answers for some anchors; the best box is the arg-max over all scales, cells and anchors.

Shapes: N images, Q queries, W words a query, D width, A anchors a cell, S scales, C cells of all scales, K = C * A.
"""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = (1, 2, 8, 8, 4)  # of Darknet-53: residual blocks of each halving
N_SCALES = 3  # of Darknet's maps
N_COORDINATES = 8  # left, top, right, bottom, center x, center y, 1 / columns, 1 / rows of a cell
N_OUTPUTS = 5  # of an anchor: offsets x and y, log sizes w and h, confidence
SLOPE = 0.1  # of Darknet's leaky ReLU


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a network is built from, also from JSON. The paper's: size 256, stem 32 of stride 1, Darknet-53, width 512.

    `stages`: (channels, residual blocks) of each halving of the map; one map for each entry of `anchors`, finest
    first, comes from the last stages. `anchors`: per scale the (width, height) pairs, pixels of the network's input.
    """

    size_px: int
    stem: int
    stem_stride: int
    stages: tuple[tuple[int, int], ...]
    width: int
    anchors: tuple[tuple[tuple[float, float], ...], ...]

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels a cell, for each scale."""
        n_stages = len(self.stages)
        return tuple(self.stem_stride * 2 ** (n_stages - i) for i in reversed(range(len(self.anchors))))

    @property
    def channels(self) -> list[int]:
        """Of the stem's and each stage's output."""
        return [self.stem, *(n for n, _ in self.stages)]


def conv(n_in: int, n_out: int, kernel: int, stride: int = 1, slope: float = SLOPE) -> nn.Sequential:
    """Convolution, batch norm, and a ReLU of this slope below 0."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(n_out), nn.LeakyReLU(slope)
    )


class Residual(nn.Module):
    """Darknet's block: a 1x1 convolution to half the channels, a 3x3 back to all, and the input added."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(n_channels, n_channels // 2, 1), conv(n_channels // 2, n_channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Stages(nn.Module):
    """A stem and stages that halve the map, which both backbones start with."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.stem = conv(3, sizes.stem, 3, sizes.stem_stride)
        self.stages = nn.ModuleList(
            nn.Sequential(conv(n_in, n_out, 3, 2), *(Residual(n_out) for _ in range(n_blocks)))
            for n_in, (n_out, n_blocks) in zip(sizes.channels, sizes.stages, strict=False)
        )

    def run_stages(self, images: Tensor) -> list[Tensor]:
        """[N, 3, size, size] -> the map after each stage, coarsest first."""
        maps = [self.stem(images)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[:0:-1]


class Backbone(Stages):
    """Maps of the last stages, brought to one width: a coarse map is added, upsampled, to the finer one."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.lateral = nn.ModuleList(conv(n, sizes.width, 1) for n in sizes.channels[-len(sizes.anchors) :])

    def forward(self, images: Tensor) -> list[Tensor]:
        """[N, 3, size, size] -> for each scale [N, D, rows, columns], finest first."""
        merged: list[Tensor] = []
        for lateral, x in zip(reversed(list(self.lateral)), self.run_stages(images), strict=False):
            own = lateral(x)
            merged.append(own + F.interpolate(merged[-1], scale_factor=2.0) if merged else own)
        return merged[::-1]


class Darknet(Stages):
    """Darknet-53 with the upsampling of YOLOv3 (Redmon and Farhadi, 2018).

    A scale's map goes through four convolutions; two more lead to the next finer scale, where their result is upsampled
    and concatenated with that scale's own map.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        scales = sizes.channels[: -N_SCALES - 1 : -1]  # channels, coarsest first
        from_coarser = [0, *(n // 4 for n in scales[:-1])]  # channels concatenated with a scale's own
        self.necks = nn.ModuleList(
            nn.Sequential(conv(n + more, n // 2, 1), conv(n // 2, n, 3), conv(n, n // 2, 1), conv(n // 2, n, 3))
            for n, more in zip(scales, from_coarser, strict=True)
        )
        self.handed = nn.ModuleList(nn.Sequential(conv(n, n // 2, 1), conv(n // 2, n // 4, 1)) for n in scales[:-1])
        self.mapped = nn.ModuleList(conv(n, sizes.width, 1, slope=0.0) for n in scales)

    def forward(self, images: Tensor) -> list[Tensor]:
        """[N, 3, size, size] -> for each scale [N, D, rows, columns], finest first."""
        x, maps = images, list[Tensor]()
        for i, own in enumerate(self.run_stages(images)[:N_SCALES]):
            if i:
                own = torch.cat([F.interpolate(self.handed[i - 1](x), scale_factor=2.0), own], dim=1)
            x = self.necks[i](own)
            maps.append(self.mapped[i](x))
        return maps[::-1]


def layers() -> Iterator[tuple[str, int]]:
    """Each convolution of `Darknet` except `mapped`, and its number in Darknet's own list of layers.

    The list also counts, after each residual block, its sum; after the fifth convolution of a scale, two convolutions
    that predict its boxes, the boxes and a route; after the sixth, an upsampling and a concatenation.
    """
    yield "stem", 0
    number = 1
    for stage, n_blocks in enumerate(BLOCKS):
        yield f"stages.{stage}.0", number
        number += 1
        for block in range(n_blocks):
            yield f"stages.{stage}.{1 + block}.body.0", number
            yield f"stages.{stage}.{1 + block}.body.1", number + 1
            number += 3
    for scale in range(N_SCALES):
        for j in range(4):
            yield f"necks.{scale}.{j}", number + j
        if scale < N_SCALES - 1:
            yield f"handed.{scale}.0", number + 4
            yield f"handed.{scale}.1", number + 9
        number += 12


class QueryEncoder(nn.Module):
    """Mean of the words' vectors, through two layers."""

    def __init__(self, n_words: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_words, width, padding_idx=0)
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, words: Tensor) -> Tensor:
        """int64 [Q, W], 0 pads -> [Q, D]."""
        real = (words > 0).unsqueeze(-1)
        return self.layers((self.embedding(words) * real).sum(1) / real.sum(1).clamp(min=1))


class Head(nn.Module):
    """Fusion and answer at one scale.

    The first 1x1 convolution acts on a concatenation, so it is three smaller ones whose results are added: the visual
    one is computed once for all queries of an image.
    """

    def __init__(self, width: int, n_anchors: int) -> None:
        super().__init__()
        self.visual = nn.Conv2d(width, width, 1, bias=False)
        self.query = nn.Linear(width, width, bias=False)
        self.coordinates = nn.Conv2d(N_COORDINATES, width, 1, bias=False)
        self.mixed = nn.Sequential(nn.BatchNorm2d(width), nn.LeakyReLU(SLOPE), conv(width, width, 3))
        self.answer = nn.Conv2d(width, n_anchors * N_OUTPUTS, 1)

    def encode(self, features: Tensor) -> Tensor:
        """[N, D, rows, columns] -> the share of image and coordinates in the fusion, same shape."""
        return self.visual(F.normalize(features, dim=1)) + self.coordinates(coordinate_maps(features))

    def forward(self, maps: Tensor, query: Tensor) -> Tensor:
        """Results of `encode` (row q belongs to query q) and queries [Q, D] -> [Q, rows * columns * A, 5]."""
        fused = self.mixed(maps + self.query(F.normalize(query, dim=1))[:, :, None, None])
        return self.answer(fused).permute(0, 2, 3, 1).reshape(len(query), -1, N_OUTPUTS)


class OneStage(nn.Module):
    """The whole network. `encode_images` runs once an image, `encoder` once a text, `predict` once a query.

    `max_log`: at most, of a side over its anchor.
    """

    grid: Tensor  # [K, 5], see anchor_grid

    def __init__(
        self, sizes: Sizes, backbone: nn.Module, encoder: nn.Module, head: type[Head] = Head, max_log: float = 3.0
    ) -> None:
        super().__init__()
        self.sizes, self.backbone, self.encoder, self.max_log = sizes, backbone, encoder, max_log
        self.heads = nn.ModuleList(head(sizes.width, len(pairs)) for pairs in sizes.anchors)
        self.register_buffer("grid", anchor_grid(sizes), persistent=False)

    def encode_images(self, images: Tensor) -> list[Tensor]:
        """float32 [N, 3, size, size], standardized -> for each scale [N, D, rows, columns]."""
        return [cast(Head, head).encode(x) for head, x in zip(self.heads, self.backbone(images), strict=True)]

    def predict(self, maps: Sequence[Tensor], queries: Tensor) -> Tensor:
        """Feature maps (row q belongs to query q) and queries [Q, D] -> raw predictions [Q, K, 5]."""
        return torch.cat([head(x, queries) for head, x in zip(self.heads, maps, strict=True)], dim=1)

    def forward(self, maps: Sequence[Tensor], words: Tensor) -> Tensor:
        """Feature maps (row q belongs to query q) and words int64 [Q, W], 0 pads -> raw predictions [Q, K, 5]."""
        return self.predict(maps, self.encoder(words))

    def boxes(self, answers: Tensor) -> Tensor:
        """Raw predictions [Q, K, 5] -> x0, y0, x1, y1 in pixels of the input, [Q, K, 4].

        The center lies in the anchor's own cell (sigmoid); width and height are the anchor's times an exponential.
        """
        corner, stride, anchor = self.grid[:, 0:2], self.grid[:, 2:3], self.grid[:, 3:5]
        centre = corner + torch.sigmoid(answers[..., 0:2]) * stride
        half = anchor * torch.exp(answers[..., 2:4].clamp(max=self.max_log)) / 2
        return torch.cat([centre - half, centre + half], dim=-1)


def small_network(sizes: Sizes, n_words: int) -> OneStage:
    """The network that is trained on drawings, with random weights."""
    return OneStage(sizes, Backbone(sizes), QueryEncoder(n_words, sizes.width))


def coordinate_maps(features: Tensor) -> Tensor:
    """Eight numbers a cell, the first six in [-1, 1]: [N, *, rows, columns] -> [N, 8, rows, columns]."""
    n, _, rows, columns = features.shape
    sides = (torch.arange(side, dtype=features.dtype, device=features.device) / side for side in (rows, columns))
    y, x = torch.meshgrid(*sides, indexing="ij")
    dx, dy = 1 / columns, 1 / rows
    scaled = [2 * edge - 1 for edge in (x, y, x + dx, y + dy, x + dx / 2, y + dy / 2)]
    return torch.stack([*scaled, torch.full_like(x, dx), torch.full_like(x, dy)]).expand(n, -1, -1, -1)


def anchor_grid(sizes: Sizes) -> Tensor:
    """Corner x and y of the cell, its side, anchor width and height, all in input pixels: float32 [K, 5].

    Order: scale, row, column, anchor, as `Head.forward` answers.
    """
    rows = []
    for stride, pairs in zip(sizes.strides, sizes.anchors, strict=True):
        edges = range(0, sizes.size_px // stride * stride, stride)
        rows += [(x, y, stride, *pair) for y in edges for x in edges for pair in pairs]
    return torch.tensor(rows, dtype=torch.float32)
