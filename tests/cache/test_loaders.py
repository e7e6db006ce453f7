"""A pack read by the workers of torch's DataLoader, however they are started."""

import numpy as np
import pytest
import torch

from cache.packs import Pack
from tests.cache.test_packs import make_posts, pack_  # noqa: F401


class Posts(torch.utils.data.Dataset):
    """As a trainer reads: the open pack travels to each worker."""

    def __init__(self, pack: Pack) -> None:
        self.pack, self.ids = pack, pack.ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, at: int) -> tuple[str, torch.Tensor, int]:
        objects = self.pack.read(self.ids[at])
        return self.ids[at], torch.from_numpy(objects.features.copy()), len(objects.regions)


def as_it_comes(items: list[tuple[str, torch.Tensor, int]]) -> list[tuple[str, torch.Tensor, int]]:
    return items


@pytest.mark.parametrize(
    ("method", "n_workers"),
    [
        ("fork", 2),
        *(pytest.param(name, 2, marks=pytest.mark.long) for name in ("spawn", "forkserver")),  # each imports torch anew
    ],
)
def test_data_loader_workers_read(pack: Pack, method: str, n_workers: int) -> None:
    posts = make_posts()
    pack.read("post 3é")
    loader = torch.utils.data.DataLoader(
        Posts(pack),
        batch_size=7,
        num_workers=n_workers,
        multiprocessing_context=method,
        collate_fn=as_it_comes,
        persistent_workers=True,
    )
    for _ in range(2):
        seen = {name: (features, count) for batch in loader for name, features, count in batch}
        assert seen.keys() == posts.keys()
        for name, (features, count) in seen.items():
            assert count == len(posts[name].regions)
            np.testing.assert_array_equal(features.numpy(), posts[name].features)
