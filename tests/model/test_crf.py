"""The CRF against brute force over all tag paths, and against pytorch-crf itself."""

from __future__ import annotations

import itertools

import pytest
import torch
import torchcrf
from torch import Tensor

from model.crf import CRF, iob2_transitions
from schema.errors import DataError
from schema.labels import EBD_TAGS, LabelSet, entities

LABELS = LabelSet({"PER": "person", "LOC": "location"}, {})
TAGS = LABELS.tags  # O, B-PER, I-PER, B-LOC, I-LOC


def crf_of(n_tags: int, seed: int = 0, scale: float = 1.0) -> CRF:
    torch.manual_seed(seed)
    crf = CRF(n_tags).double()
    for parameter in crf.parameters():
        parameter.data.normal_(0, scale)
    return crf


def batch_of(lengths: list[int], n_tags: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    mask = torch.arange(shape[1])[None] < torch.tensor(lengths)[:, None]
    emissions = torch.randn(*shape, n_tags, dtype=torch.float64, generator=generator) * 2
    tags = torch.randint(n_tags, shape, generator=generator)
    return emissions, tags, mask


def path_score(crf: CRF, emissions: Tensor, path: tuple[int, ...]) -> float:
    """Score of one tag path over emissions [n, K], term by term."""
    score = crf.start_transitions[path[0]] + crf.end_transitions[path[-1]]
    for t, tag in enumerate(path):
        score = score + emissions[t, tag]
    for before, after in itertools.pairwise(path):
        score = score + crf.transitions[before, after]
    return float(score.detach())


def all_paths(crf: CRF, emissions: Tensor) -> dict[tuple[int, ...], float]:
    n, n_tags = emissions.shape
    return {path: path_score(crf, emissions, path) for path in itertools.product(range(n_tags), repeat=n)}


def log_sum(values: list[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).logsumexp(0))


@pytest.mark.parametrize("lengths", [[1], [1, 1], [2, 1], [5, 1, 3, 4, 2]])
@pytest.mark.parametrize("n_tags", [1, 3, 5])
def test_likelihood_is_that_of_all_paths(lengths: list[int], n_tags: int) -> None:
    crf = crf_of(n_tags)
    emissions, tags, mask = batch_of(lengths, n_tags)
    found = crf.nll(emissions, tags.masked_fill(~mask, -100), mask)
    for row, n in enumerate(lengths):
        paths = all_paths(crf, emissions[row, :n])
        gold = paths[tuple(tags[row, :n].tolist())]
        assert found[row].item() == pytest.approx(log_sum(list(paths.values())) - gold, abs=1e-11)


def test_value_and_gradients_are_those_of_pytorch_crf() -> None:
    crf = crf_of(9)
    theirs = torchcrf.CRF(9, batch_first=True).double()
    theirs.load_state_dict(crf.state_dict(), strict=True)
    emissions, tags, mask = batch_of([17, 1, 6, 16, 11, 2], 9)
    ours_in, theirs_in = emissions.clone().requires_grad_(), emissions.clone().requires_grad_()
    ours = crf.nll(ours_in, tags, mask).sum()
    reference = -theirs(theirs_in, tags, mask, reduction="sum")
    ours.backward()
    reference.backward()
    assert ours.item() == pytest.approx(reference.item(), abs=1e-10)
    torch.testing.assert_close(ours_in.grad, theirs_in.grad, atol=1e-11, rtol=0)
    for mine, other in zip(crf.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-10, rtol=0)
    assert ours_in.grad is not None
    assert not ours_in.grad[~mask].any()


def test_padding_and_neighbours_change_nothing() -> None:
    crf = crf_of(5)
    emissions, tags, mask = batch_of([7, 3], 5)
    alone = crf.nll(emissions[1:, :3], tags[1:, :3], mask[1:, :3])
    emissions[1, 3:] = 1e6
    assert crf.nll(emissions, tags, mask)[1].item() == pytest.approx(alone.item(), abs=1e-11)
    assert crf.decode(emissions, mask)[1] == crf.decode(emissions[1:, :3], mask[1:, :3])[0]


def test_extreme_scores_stay_finite_and_right() -> None:
    crf = crf_of(3).float()
    emissions, tags, mask = (part.float() if part.is_floating_point() else part for part in batch_of([9, 4], 3))
    emissions = (emissions * 500).requires_grad_()
    loss = crf.nll(emissions, tags, mask)
    exact = crf.double().nll(emissions.double(), tags, mask)
    torch.testing.assert_close(loss, exact.float(), rtol=1e-5, atol=1e-3)
    loss.sum().backward()
    assert emissions.grad is not None
    assert torch.isfinite(emissions.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_emissions_are_scored_in_float32(dtype: torch.dtype) -> None:
    crf = crf_of(5).float()
    emissions, tags, mask = batch_of([20, 13], 5)
    low = emissions.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = crf.nll(low, tags, mask)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, crf.nll(low.float(), tags, mask), rtol=1e-6, atol=0)


@pytest.mark.parametrize("constrained", [False, True])
def test_decode_is_the_best_of_all_paths(constrained: bool) -> None:
    crf = crf_of(5, seed=3)
    lengths = [5, 1, 3, 4, 2, 5]
    emissions, _, mask = batch_of(lengths, 5, seed=4)
    found = crf.decode(emissions, mask, iob2_transitions(TAGS) if constrained else None)
    n_changed = 0
    for row, n in enumerate(lengths):
        paths = all_paths(crf, emissions[row, :n])
        best = max(paths, key=lambda path: paths[path])
        if constrained:
            kept = {path: score for path, score in paths.items() if is_iob2(path)}
            n_changed += max(kept, key=lambda path: kept[path]) != best
            best = max(kept, key=lambda path: kept[path])
        assert found[row] == list(best)
    assert n_changed > 0 or not constrained  # else the constraint was not put to the test


def is_iob2(path: tuple[int, ...]) -> bool:
    tags = [TAGS[tag] for tag in path]
    return entities(tags) == entities(tags, lenient=True)


@pytest.mark.filterwarnings("ignore:where received a uint8")
def test_decode_is_that_of_pytorch_crf() -> None:
    crf = crf_of(9, seed=7)
    theirs = torchcrf.CRF(9, batch_first=True).double()
    theirs.load_state_dict(crf.state_dict())
    emissions, _, mask = batch_of([40, 1, 23, 39, 8], 9)
    assert crf.decode(emissions, mask) == theirs.decode(emissions, mask)
    assert crf.decode(emissions) == theirs.decode(emissions)


def test_transitions_are_iob2() -> None:
    start, step = iob2_transitions(TAGS)
    assert start.tolist() == [True, True, False, True, False]
    forbidden = {(TAGS[a], TAGS[b]) for a, b in (~step).nonzero().tolist()}
    assert forbidden == {
        ("O", "I-PER"), ("O", "I-LOC"), ("B-PER", "I-LOC"), ("I-PER", "I-LOC"), ("B-LOC", "I-PER"), ("I-LOC", "I-PER")
    }  # fmt: skip


def test_span_probability_is_the_sum_of_its_paths() -> None:
    crf = crf_of(5, seed=1)
    lengths = [5, 1, 2, 4]
    emissions, _, mask = batch_of(lengths, 5, seed=2)
    asked = [
        (row, start, end, kind)
        for row, n in enumerate(lengths)
        for start in range(n)
        for end in range(start + 1, n + 1)
        for kind in range(2)
    ]
    table = torch.tensor(asked)
    begin = 1 + 2 * table[:, 3]
    found = crf.span_log_prob(emissions, mask, table[:, 0], table[:, 1:3], begin, begin + 1).exp()
    for row, n in enumerate(lengths):
        paths = all_paths(crf, emissions[row, :n])
        log_z = log_sum(list(paths.values()))
        for at, (post, start, end, kind) in enumerate(asked):
            if post == row:
                expected = [1 + 2 * kind] + [2 + 2 * kind] * (end - start - 1)
                hits = [
                    score
                    for path, score in paths.items()
                    if list(path[start:end]) == expected and (end == n or path[end] != 2 + 2 * kind)
                ]
                assert found[at].item() == pytest.approx(
                    sum(torch.tensor(hits, dtype=torch.float64).sub(log_z).exp().tolist()), abs=1e-10
                )


def test_boundary_crf_works_over_three_tags() -> None:
    crf = crf_of(len(EBD_TAGS))
    emissions, _, mask = batch_of([4], 3)
    paths = all_paths(crf, emissions[0])
    best = max(paths, key=lambda path: paths[path])
    assert crf.decode(emissions, mask)[0] == list(best)


def test_wrong_shapes_are_named() -> None:
    crf = crf_of(5)
    emissions, tags, mask = batch_of([3], 4)
    with pytest.raises(DataError, match=r"a CRF over 5 tags needs emissions \[B, T, K\] and a mask \[B, T\] \(found "):
        crf.nll(emissions, tags, mask)


@pytest.mark.parametrize(
    ("post", "start", "end", "found"),
    [
        (1, 1, 3, r"words \[1, 3\) of post 1 of 2 words"),
        (0, -1, 1, r"words \[-1, 1\) of post 0 of 4 words"),
        (0, 2, 2, r"words \[2, 2\) of post 0"),
        (2, 0, 1, r"of post 2 of 2 posts"),
    ],
)
def test_a_span_outside_its_post_is_refused(post: int, start: int, end: int, found: str) -> None:
    crf = crf_of(5)
    emissions, _, mask = batch_of([4, 2], 5)
    posts, spans = torch.tensor([0, post]), torch.tensor([[0, 4], [start, end]])
    with pytest.raises(DataError, match=f"a span lies outside its post.*{found}"):
        crf.span_log_prob(emissions, mask, posts, spans, torch.tensor([1, 1]), torch.tensor([2, 2]))
