"""The position term and its gradients against a product with R of every pair, written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.interaction import PositionGradient, PositionInputs, PositionTerm, Relative, Shape, shifted

DIM = 8


def place_of(shape: Shape, text_only: bool) -> PositionInputs:
    torch.manual_seed(0)
    n_rows = shape.text_rows + (0 if text_only else shape.posts * shape.objects)
    weight, words = torch.randn(DIM, DIM).double(), torch.randn(2 * shape.text - 1, DIM).double()
    across: list[Tensor | None] = [None, None, None]
    if shape.objects:
        sizes = (
            (shape.text_rows, shape.objects),
            (shape.posts * shape.objects, shape.text),
            (shape.posts * shape.objects, shape.objects),
        )
        across = [torch.randn(*size, DIM).double() for size in sizes]
    return PositionInputs(torch.randn(n_rows, DIM).double(), weight, words @ weight.t(), Relative(words, *across))


def written_out(shape: Shape, query: Tensor, weight: Tensor, relative: Relative) -> Tensor:
    """[B, H, I, L] from R of every pair, [B, I, L, D]."""
    n, m = shape.text, shape.objects
    index = torch.tensor([[n - 1 - (i - j) for j in range(n)] for i in range(n)])
    pairs = relative.words[index].expand(shape.posts, n, n, DIM)
    queries = query[: shape.text_rows].view(shape.posts, n, DIM)
    if relative.word_object is not None:
        pairs = torch.cat([pairs, relative.word_object.view(shape.posts, n, m, DIM)], dim=2)
    if len(query) > shape.text_rows:
        assert relative.object_word is not None
        assert relative.object_object is not None
        rest = [part.view(shape.posts, m, -1, DIM) for part in (relative.object_word, relative.object_object)]
        pairs = torch.cat([pairs, torch.cat(rest, dim=2)], dim=1)
        queries = torch.cat([queries, query[shape.text_rows :].view(shape.posts, m, DIM)], dim=1)
    keys = (pairs @ weight.t()).unflatten(-1, (shape.heads, -1))
    return torch.einsum("bihc,bijhc->bhij", queries.unflatten(-1, (shape.heads, -1)), keys)


@pytest.mark.parametrize(("shape", "text_only"), [
    (Shape(3, 4, 2, 2), False), (Shape(3, 4, 2, 2), True), (Shape(2, 3, 0, 4), False), (Shape(1, 1, 1, 1), False)
])  # fmt: skip
@pytest.mark.parametrize("goes_on", [False, True])
def test_scores_and_gradients(shape: Shape, text_only: bool, goes_on: bool) -> None:
    place = place_of(shape, text_only)
    leaves = [place.query, place.weight, *(part for part in place.relative if part is not None)]
    for leaf in leaves:
        leaf.requires_grad_()
    wanted = written_out(shape, place.query, place.weight, place.relative)
    owed = torch.randn_like(wanted)
    wanted_grads = list(torch.autograd.grad((wanted * owed).sum(), leaves, allow_unused=True))
    later = [torch.ones_like(part) if part is not None and goes_on else None for part in place.relative[1:]]
    with torch.no_grad():
        term, gradient = PositionTerm(shape, place), PositionGradient(shape, place, later)
        found = []
        for post in range(shape.posts):
            found.append(term.scores(range(post, post + 1)))
            gradient.add(range(post, post + 1), owed[post : post + 1])
        d_query, d_weight, d_word_keys, nothing, *d_relative = gradient.gradients()
    torch.testing.assert_close(torch.cat(found), wanted.detach())
    assert nothing is None
    assert d_weight is not None
    assert d_word_keys is not None
    with torch.no_grad():  # word_keys = words @ weight.T carries the rest of these two gradients
        torch.testing.assert_close(d_query, wanted_grads[0])
        torch.testing.assert_close(d_weight + d_word_keys.t() @ place.relative.words, wanted_grads[1])
        torch.testing.assert_close(d_word_keys @ place.weight, wanted_grads[2])
    for one, other in zip([part for part in d_relative if part is not None], wanted_grads[3:], strict=False):
        torch.testing.assert_close(one, (torch.zeros_like(one) if other is None else other) + (1 if goes_on else 0))


def test_text_queries_leave_the_objects_share_alone() -> None:
    shape = Shape(2, 3, 2, 2)
    place = place_of(shape, text_only=True)
    assert [part is None for part in PositionGradient(shape, place, [None] * 3).gradients()[4:]] == [False, True, True]


def test_shifted_is_a_view_by_distance() -> None:
    n = 3
    raw = torch.arange(2 * 2 * n * (2 * n - 1)).view(2 * n, 2, 2 * n - 1).float()
    for layout in (raw.clone(), raw.transpose(0, 1).contiguous().transpose(0, 1)):
        view = shifted(layout, n)
        for post, head, i, j in torch.cartesian_prod(*map(torch.arange, (2, 2, n, n))).tolist():
            assert view[post, head, i, j] == raw[post * n + i, head, n - 1 - (i - j)]
        view.fill_(-1)
        assert (layout == -1).sum() == 2 * 2 * n * n  # it wrote through, once a pair
