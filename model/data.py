"""Posts and their objects as examples and padded batches; posts of similar length share a batch.

Letters: B posts, T text cells ([CLS], words, [SEP]), N = T - 2 words, M objects, D the pack's feature width.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from model.config import TrainConfig
from model.crops import Crop, CropReader, crop_of
from model.distributed import ProcessGroup
from model.objects import ObjectSource, plan_objects
from model.vocabulary import Vocabulary, padded
from model.words import Pieces
from schema.errors import DataError
from schema.labels import EBD_TAGS, LabelSet, ebd_tags
from schema.lattice import CutObjects
from schema.records import Post

Featurizer = Pieces | Vocabulary  # encodes the words of a post, and collates such values to tensors
SEED_STRIDE = 1_000_003  # a prime beyond any epoch and step count: no two (seed, number) pairs share random numbers
SORTED_BATCHES = 32  # batches whose posts are sorted by length together: little padding, yet mixed batches


@dataclass(frozen=True)
class Batch:
    """Posts padded to a common length; masks are True where a cell is real. `collate` checks it once.

    Padding holds zeros, tag 0 (`O`) and span (0, 0); every post has at least one word, and real cells come first.
    """

    rows: tuple[int, ...]  # indices of the posts in their dataset
    inputs: Mapping[str, Tensor]  # from the approach's featurizer
    text_mask: Tensor  # [B, T] bool
    objects: Tensor  # [B, M, D] the pack's dtype
    spans: Tensor  # [B, M, 2] int64: head and tail
    object_mask: Tensor  # [B, M] bool
    tags: Tensor | None = None  # [B, N] int64
    boundaries: Tensor | None = None  # [B, N] int64: Z of Section 3.3
    crops: Tensor | None = None  # [C, 3, S, S] uint8, distinct; `objects` is then [B, M, 0]
    crop_index: Tensor | None = None  # [B, M] int64: the crop of each object, -1: zeros

    def checked(self) -> Self:
        """The batch itself; raises DataError if it is invalid. Reads values, so use it only for batches on the CPU."""
        (n_posts, n_cells), n_objects = self.text_mask.shape, self.object_mask.shape[1]
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("tags", "boundaries"), (n_posts, n_cells - 2))
        shapes |= dict.fromkeys(("object_mask", "crop_index"), (n_posts, n_objects))
        shapes |= {"objects": (n_posts, n_objects, self.objects.shape[-1]), "spans": (n_posts, n_objects, 2)}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise DataError(f"batch: {name} should be {shape}", found=str(tuple(value.shape)))
        if len(self.rows) != n_posts or not bool(self.text_mask[:, :3].all()):
            raise DataError("batch: every post needs a row and at least one word")
        lengths = self.text_mask.sum(1)
        if not torch.equal(self.text_mask, torch.arange(n_cells) < lengths[:, None]):
            raise DataError("batch: padding must come after the real cells")
        head, tail = self.spans.unbind(-1)
        inside = (head >= 0) & (head <= tail) & (tail < lengths[:, None])
        if not bool((inside | ~self.object_mask).all()):
            raise DataError("batch: a span lies outside its post", todo="rebuild the pack from these posts")
        return self

    @property
    def word_mask(self) -> Tensor:
        """[B, N] bool: True at the words, cells 1..n."""
        return self.text_mask[:, 2:]

    @property
    def gold(self) -> tuple[Tensor, Tensor]:
        """Tags Y and boundary labels Z, each [B, N] int64; DataError for posts without labels."""
        if self.tags is None or self.boundaries is None:
            raise DataError("batch: a loss needs labeled posts")
        return self.tags, self.boundaries

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device | str) -> Self:
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:  # called by DataLoader, so that copies to a GPU overlap with computation
        return self.mapped(Tensor.pin_memory)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors: dict[str, Any] = {n: change(value) for n, value in values.items() if isinstance(value, Tensor)}
        return replace(self, inputs={name: change(value) for name, value in self.inputs.items()}, **tensors)


class Example(NamedTuple):
    """A post as numbers; `row` is its index in the dataset."""

    row: int
    encoded: Any
    features: np.ndarray  # [M, D]; [M, 0] if crops are read
    spans: tuple[tuple[int, int], ...]  # (head, tail)
    crops: tuple[Crop | None, ...]  # of each object; None without one, or if features are read
    tags: tuple[int, ...] | None = None
    boundaries: tuple[int, ...] | None = None


class PostDataset(Dataset[Example]):
    """Posts with their objects, after controls and the cap; `crops` reads image crops instead of features."""

    def __init__(
        self,
        posts: Sequence[Post],
        objects: ObjectSource,
        labels: LabelSet,
        featurizer: Featurizer,
        config: TrainConfig,
        seed: int = 0,
        crops: CropReader | None = None,
    ) -> None:
        self.posts, self.objects, self.labels, self.crops = posts, objects, labels, crops
        self.encoded: list[Any] = [featurizer.encode(post.words) for post in posts]
        self.plans = plan_objects(posts, objects, [post.n_words for post in self.encoded], config, seed)

    def __len__(self) -> int:
        return len(self.posts)

    def __getitem__(self, row: int) -> Example:
        post, plan, encoded = self.posts[row], self.plans[row], self.encoded[row]
        features: np.ndarray = np.zeros((len(plan.spans), 0), np.float32)
        crops: tuple[Crop | None, ...] = (None,) * len(plan.spans)
        if self.crops is None:
            features = self.features(row)
        elif plan.owner is not None:
            owner = self.posts[plan.owner]
            regions = self.objects(owner).regions
            crops = tuple(crop_of(owner, regions[index]) for index in plan.indices)
        if post.tags is None:
            return Example(row, encoded, features, plan.spans, crops)
        tags = tuple(self.labels.tag_ids[tag] for tag in post.tags[: encoded.n_words])
        boundaries = tuple(EBD_TAGS.index(tag) for tag in ebd_tags(post.tags)[: encoded.n_words])
        return Example(row, encoded, features, plan.spans, crops, tags, boundaries)

    def features(self, row: int) -> np.ndarray:
        """The features [M, D] of the objects that the post's plan selects."""
        plan = self.plans[row]
        source = self.objects(self.posts[row if plan.owner is None else plan.owner]).features
        if plan.owner is None:
            return np.zeros((len(plan.spans), source.shape[1]), source.dtype)
        return source[list(plan.indices)]

    def n_cells(self) -> list[int]:
        """Number of cells of each post's lattice, text and objects."""
        return [post.n_words + 2 + len(plan.spans) for post, plan in zip(self.encoded, self.plans, strict=True)]

    @property
    def cut(self) -> CutObjects:
        """Objects that the cap, or truncation of words, leaves out of the lattice."""
        return sum((CutObjects.of_post(plan.cut) for plan in self.plans), CutObjects())


def collate(examples: Sequence[Example], featurizer: Featurizer, crops: CropReader | None = None) -> Batch:
    """A checked batch on the CPU; with tags if every post has them, with crops if there is a reader."""
    n_words = torch.tensor([example.encoded.n_words for example in examples])
    n_objects = torch.tensor([len(example.spans) for example in examples])
    n_cells, most = int(n_words.max()) + 2, int(n_objects.max())
    shape = len(examples), most, max(example.features.shape[1] for example in examples)
    features, spans = np.zeros(shape, examples[0].features.dtype), np.zeros((*shape[:2], 2), np.int64)
    for index, example in enumerate(examples):
        if example.spans:
            features[index, : len(example.spans)] = example.features
            spans[index, : len(example.spans)] = example.spans
    labelled = all(example.tags is not None for example in examples)
    pixels, crop_index = crops.batch([example.crops for example in examples], most) if crops else (None, None)
    return Batch(
        rows=tuple(example.row for example in examples),
        inputs=featurizer.collate([example.encoded for example in examples]),
        text_mask=torch.arange(n_cells) < n_words[:, None] + 2,
        objects=torch.from_numpy(features),
        spans=torch.from_numpy(spans),
        object_mask=torch.arange(most) < n_objects[:, None],
        tags=padded([example.tags or () for example in examples]) if labelled else None,
        boundaries=padded([example.boundaries or () for example in examples]) if labelled else None,
        crops=pixels,
        crop_index=crop_index,
    ).checked()


def seed_of(seed: int, number: int) -> int:
    """The seed for step or epoch `number` of a run with `seed`."""
    return (seed * SEED_STRIDE + number) % 2**63  # the largest seed that torch accepts


class LengthBatches(Sampler[list[int]]):
    """Batches of posts of similar length: at most `batch` posts and `max_cells` padded cells, or one longer post.

    With a seed the order depends on seed and `epoch` only; without, posts are sorted by length. `skip`: batches of this
    epoch that are already trained. Iterating gives the non-empty shares of this process in `group`.
    """

    def __init__(
        self, cells: list[int], batch: int, max_cells: int, seed: int | None = None, group: ProcessGroup | None = None
    ) -> None:
        self.cells, self.batch, self.max_cells, self.seed, self.group = cells, batch, max_cells, seed, group
        self.epoch, self.skip = 0, 0

    def __iter__(self) -> Iterator[list[int]]:
        shares = (rows if self.group is None else list(self.group.share(rows)) for rows in self.batches())
        return iter([rows for rows in shares if rows])

    def batches(self) -> list[list[int]]:
        """The batches of the epoch after the first `skip`, with all processes' rows."""
        if self.seed is None:
            return self._cut(range(len(self.cells)))[self.skip :]
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        order = torch.randperm(len(self.cells), generator=generator).tolist()
        pool, batches = self.batch * SORTED_BATCHES, []
        for start in range(0, len(order), pool):
            batches += self._cut(order[start : start + pool])
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[index] for index in shuffled[self.skip :]]

    def _cut(self, rows: Sequence[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        for row in sorted(rows, key=self.cells.__getitem__):  # ascending, so the newest row is the longest
            fits = batches and (len(batches[-1]) + 1) * self.cells[row] <= self.max_cells
            if fits and len(batches[-1]) < self.batch:
                batches[-1].append(row)
            else:
                batches.append([row])
        return batches


def loader(
    dataset: PostDataset, batches: LengthBatches, featurizer: Featurizer, device: torch.device, workers: int
) -> DataLoader[Batch]:
    """Checked CPU batches in the sampler's order, in pinned memory for a GPU."""
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # the batch's type is the collate function's
        batch_sampler=batches,
        collate_fn=partial(collate, featurizer=featurizer, crops=dataset.crops),
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
