"""The position term and its gradients against a product with R of every pair."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.interaction import AttentionInputs, PositionGradient, PositionTerm, Shape, shifted

DIM = 8


def random_inputs(shape: Shape, text_only: bool, bias: Tensor | None = None) -> AttentionInputs:
    torch.manual_seed(0)
    n_text, n_objects = shape.text_rows, shape.posts * shape.objects
    n_queries = n_text + (0 if text_only else n_objects)
    rows = [torch.randn(n, DIM).double() for n in (n_queries, n_text + n_objects, n_text + n_objects)]
    position = [torch.randn(n, DIM).double() for n in (n_queries, DIM, 2 * shape.text - 1)]
    relative: list[Tensor | None] = [None, None, None]
    if shape.objects:
        sizes = (n_text, shape.objects), (n_objects, shape.text), (n_objects, shape.objects)
        relative = [torch.randn(*size, DIM).double() for size in sizes]
    return AttentionInputs(*rows, bias, *position, *relative)


def expected_scores(shape: Shape, x: AttentionInputs) -> Tensor:
    """[B, H, I, L] from a key of every pair, [B, I, L, D]."""
    n, m = shape.text, shape.objects
    assert x.position_query is not None
    assert x.position_key is not None
    assert x.word_keys is not None
    index = torch.tensor([[n - 1 - (i - j) for j in range(n)] for i in range(n)])
    keys = x.word_keys[index].expand(shape.posts, n, n, DIM)
    queries = x.position_query[: shape.text_rows].view(shape.posts, n, DIM)
    if x.word_object is not None:
        keys = torch.cat([keys, x.word_object.view(shape.posts, n, m, DIM) @ x.position_key.t()], dim=2)
    if len(x.position_query) > shape.text_rows:
        assert x.object_word is not None
        assert x.object_object is not None
        rest = [part.view(shape.posts, m, -1, DIM) for part in (x.object_word, x.object_object)]
        keys = torch.cat([keys, torch.cat(rest, dim=2) @ x.position_key.t()], dim=1)
        queries = torch.cat([queries, x.position_query[shape.text_rows :].view(shape.posts, m, DIM)], dim=1)
    heads = (shape.heads, -1)
    return torch.einsum("bihc,bijhc->bhij", queries.unflatten(-1, heads), keys.unflatten(-1, heads))


@pytest.mark.parametrize(("shape", "text_only"), [
    (Shape(3, 4, 2, 2), False), (Shape(3, 4, 2, 2), True), (Shape(2, 3, 0, 4), False), (Shape(1, 1, 1, 1), False)
])  # fmt: skip
@pytest.mark.parametrize("layers_above", [False, True])
def test_scores_and_gradients(shape: Shape, text_only: bool, layers_above: bool) -> None:
    x = random_inputs(shape, text_only)
    leaves = [part for part in x[4:] if part is not None]
    for leaf in leaves:
        leaf.requires_grad_()
    expected = expected_scores(shape, x)
    upstream = torch.randn_like(expected)
    expected_gradients = torch.autograd.grad((expected * upstream).sum(), leaves, allow_unused=True)
    later = [torch.ones_like(part) if part is not None and layers_above else None for part in x.relative]
    with torch.no_grad():
        term, gradient = PositionTerm(shape, x), PositionGradient(shape, x, later)
        scores = []
        for post in range(shape.posts):
            scores.append(term.scores(range(post, post + 1)))
            gradient.add(range(post, post + 1), upstream[post : post + 1])
        gradients = gradient.gradients()
    torch.testing.assert_close(torch.cat(scores), expected.detach())
    for number, (ours, exact) in enumerate(zip(gradients, expected_gradients, strict=False)):
        if ours is not None:
            from_above = 1 if layers_above and number > 2 else 0
            torch.testing.assert_close(ours, (torch.zeros_like(ours) if exact is None else exact) + from_above)
        else:
            assert exact is None


def test_text_queries_compute_no_gradient_of_the_objects_parts() -> None:
    shape = Shape(2, 3, 2, 2)
    gradients = PositionGradient(shape, random_inputs(shape, text_only=True), [None] * 3).gradients()
    assert [part is None for part in gradients[3:]] == [False, True, True]


def test_shifted_is_a_view_by_distance() -> None:
    n = 3
    raw = torch.arange(2 * 2 * n * (2 * n - 1)).view(2 * n, 2, 2 * n - 1).float()
    for layout in (raw.clone(), raw.transpose(0, 1).contiguous().transpose(0, 1)):
        view = shifted(layout, n)
        for post, head, i, j in torch.cartesian_prod(*map(torch.arange, (2, 2, n, n))).tolist():
            assert view[post, head, i, j] == raw[post * n + i, head, n - 1 - (i - j)]
        view.fill_(-1)
        assert (layout == -1).sum() == 2 * 2 * n * n  # it wrote through, once a pair
