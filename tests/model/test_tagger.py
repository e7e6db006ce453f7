"""FMIT's loss against its parts by brute force; what each stream may see; padding without effect."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.crf import CRF
from model.data import Batch, PostDataset, collate
from model.objects import FromMemory
from model.tagger import FMIT, ModelSpec, Tagger
from tests.model.tiny import DIM, LABELS, linked, tiny_config


def make(encoder: Path, **changes: object) -> tuple[FMIT, Batch]:
    config = tiny_config(encoder, **changes)
    torch.manual_seed(0)
    tagger = FMIT(ModelSpec(config, LABELS, DIM)).eval()
    posts, objects = linked(4, 5)
    dataset = PostDataset(posts, FromMemory(objects), LABELS, tagger.featurizer, config)
    return tagger, collate([dataset[row] for row in range(4)], tagger.featurizer)


def brute_nll(crf: CRF, emissions: Tensor, tags: list[int]) -> Tensor:
    """-log of Eq. 13 by listing every path."""

    def total(path: tuple[int, ...] | list[int]) -> Tensor:
        pairs = sum((crf.transitions[a, b] for a, b in itertools.pairwise(path)), torch.zeros(()))
        unary = sum((emissions[n, tag] for n, tag in enumerate(path)), torch.zeros(()))
        return unary + pairs + crf.start_transitions[path[0]] + crf.end_transitions[path[-1]]

    paths = itertools.product(range(crf.num_tags), repeat=len(tags))
    return torch.logsumexp(torch.stack([total(path) for path in paths]), 0) - total(tags)


@torch.no_grad()
def test_loss_is_equation_15(encoder: Path) -> None:
    tagger, batch = make(encoder, ebd_weight=0.5)
    row = 0  # a post of one name: 4 words
    n_words = int(batch.word_mask[row].sum())
    tags, boundaries = (gold[row, :n_words].tolist() for gold in batch.gold)
    text, _ = tagger._lattice(batch)
    main = brute_nll(tagger.crf, tagger.emissions(batch)[row, :n_words], tags)
    side = brute_nll(tagger.boundary_crf, tagger._mark(batch, text)[row, :n_words], boundaries)
    torch.testing.assert_close(tagger.losses(batch)[row], main + 0.5 * side, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_only_the_main_stream_sees_objects(encoder: Path) -> None:
    tagger, batch = make(encoder)
    text, _ = tagger._lattice(batch)
    marks, tags = tagger._mark(batch, text), tagger.emissions(batch)
    object.__setattr__(batch, "objects", batch.objects + 1)
    assert torch.equal(tagger._mark(batch, tagger._lattice(batch)[0]), marks)
    assert not torch.allclose(tagger.emissions(batch), tags)


@torch.no_grad()
@pytest.mark.parametrize("relative", [True, False])
def test_a_post_has_the_same_tags_in_any_batch(encoder: Path, relative: bool) -> None:
    tagger, batch = make(encoder, relative=relative)
    posts, objects = linked(4, 5)
    config = tiny_config(encoder, relative=relative)
    alone = PostDataset(posts[:1], FromMemory(objects), LABELS, tagger.featurizer, config)
    single = collate([alone[0]], tagger.featurizer)
    n_words = posts[0].n_words
    torch.testing.assert_close(tagger.emissions(single)[0], tagger.emissions(batch)[0, :n_words], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(tagger.losses(single)[0], tagger.losses(batch)[0], atol=1e-4, rtol=1e-4)


def test_ebd_weights_separate_shared_or_off(encoder: Path) -> None:
    def size(tagger: Tagger) -> int:
        return sum(parameter.numel() for parameter in tagger.parameters())

    separate, shared, off = (make(encoder, ebd=name)[0] for name in ("separate", "shared", "off"))
    stream = sum(parameter.numel() for parameter in separate.interaction.parameters())
    assert size(separate) - size(shared) == stream
    mark = sum(p.numel() for module in (shared.mark, shared.boundary_crf) for p in module.parameters())
    assert size(shared) - size(off) == mark
    assert len(shared.state_dict()) == len({value.data_ptr() for value in shared.state_dict().values()})


def test_every_weight_learns(encoder: Path) -> None:
    tagger, batch = make(encoder)
    tagger.losses(batch).sum().backward()
    idle = {name for name, parameter in tagger.named_parameters() if parameter.grad is None}
    assert idle == set()


def test_without_objects_the_lattice_is_text(encoder: Path) -> None:
    tagger, batch = make(encoder, objects="none")
    assert batch.objects.shape[1] == 0
    tagger.losses(batch).sum().backward()
    assert tagger.tag.weight.grad is not None
