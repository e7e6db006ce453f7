"""Darknet-53 with YOLOv3's way back up (Redmon and Farhadi, 2018): the eye of Yang et al.'s one-stage grounder.

Each of three scales goes through four convolutions whose result is the scale's map; a fifth hands on to the next finer
scale, where it is laid beside that scale's own map. Layers are numbered in Darknet's way: see `layers`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.grounding.onestage import Residual, Sizes, conv

BLOCKS = (1, 2, 8, 8, 4)  # residual blocks of each halving: 2 * 23 + 5 + 1 convolutions, and one of its classifier
N_SCALES = 3


class Darknet(nn.Module):
    """Maps of three scales, each brought to the common width by a 1x1 convolution and a ReLU."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        channels = [sizes.stem, *(n for n, _ in sizes.stages)]
        self.stem = conv(3, sizes.stem, 3, sizes.stem_stride)
        self.stages = nn.ModuleList(
            nn.Sequential(conv(n_in, n_out, 3, 2), *(Residual(n_out) for _ in range(n_blocks)))
            for n_in, (n_out, n_blocks) in zip(channels, sizes.stages, strict=False)
        )
        scales = channels[: -N_SCALES - 1 : -1]  # channels, coarsest first
        came = [0, *(n // 4 for n in scales[:-1])]  # laid beside a scale's own, from the coarser one
        self.necks = nn.ModuleList(
            nn.Sequential(conv(n + more, n // 2, 1), conv(n // 2, n, 3), conv(n, n // 2, 1), conv(n // 2, n, 3))
            for n, more in zip(scales, came, strict=True)
        )
        self.handed = nn.ModuleList(nn.Sequential(conv(n, n // 2, 1), conv(n // 2, n // 4, 1)) for n in scales[:-1])
        self.mapped = nn.ModuleList(conv(n, sizes.width, 1, slope=0.0) for n in scales)

    def forward(self, images: Tensor) -> list[Tensor]:
        """[N, 3, size, size] -> one [N, D, rows, columns] a scale, finest first."""
        x, kept = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            kept.append(x)
        maps: list[Tensor] = []
        for i, own in enumerate(kept[: -N_SCALES - 1 : -1]):
            if i:
                own = torch.cat([F.interpolate(self.handed[i - 1](x), scale_factor=2.0), own], dim=1)
            x = self.necks[i](own)
            maps.append(self.mapped[i](x))
        return maps[::-1]


def layers(blocks: tuple[int, ...] = BLOCKS) -> Iterator[tuple[str, int]]:
    """Each convolution of `Darknet` but `mapped`, and its number in Darknet's own list of layers.

    That list counts what has no weights too: a sum after each residual block; after a scale's four convolutions and the
    fifth, two for its boxes, the boxes, a way back; after the handing on an enlargement and a laying beside.
    """
    yield "stem", 0
    at = 1
    for stage, n_blocks in enumerate(blocks):
        yield f"stages.{stage}.0", at
        at += 1
        for block in range(n_blocks):
            yield f"stages.{stage}.{1 + block}.body.0", at
            yield f"stages.{stage}.{1 + block}.body.1", at + 1
            at += 3
    for scale in range(N_SCALES):
        for j in range(4):
            yield f"necks.{scale}.{j}", at + j
        if scale < N_SCALES - 1:
            yield f"handed.{scale}.0", at + 4
            yield f"handed.{scale}.1", at + 9
        at += 12
