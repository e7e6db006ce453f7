"""The interaction against the golden vectors and against a plain-loop oracle."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bench.ordinary import Ordinary, UniqueTuples
from model import interaction
from model.interaction import FlatInteraction, Projection
from schema.errors import DataError
from tests.model import oracle

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
CASES = sorted(path.stem for path in GOLDEN.glob("*.npz")) or ["absent"]
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
LAYER_KEYS = {
    "attention.query.weight": "W_q", "attention.key_content.weight": "W_kE", "attention.key_position.weight": "W_kR",
    "attention.value.weight": "W_v", "attention.output.weight": "W_t", "attention.content_bias": "u",
    "attention.position_bias": "v", "norm1.weight": "ln1_g", "norm1.bias": "ln1_b", "norm2.weight": "ln2_g",
    "norm2.bias": "ln2_b", "ffn.0.weight": "W_ff1", "ffn.0.bias": "b_ff1", "ffn.2.weight": "W_ff2",
    "ffn.2.bias": "b_ff2",
}  # fmt: skip
PROJECTION_KEYS = {
    "text.weight": "W1", "text.bias": "b1", "objects.weight": "W2", "objects.bias": "b2", "shared.weight": "W0",
    "shared.bias": "b0",
}  # fmt: skip


def model_of(dim: int = 8, heads: int = 2, layers: int = 2, relative: bool = True, seed: int = 0) -> FlatInteraction:
    """Float64, every parameter away from its initial zero or one."""
    torch.manual_seed(seed)
    model = FlatInteraction(dim, heads, layers, 2 * dim, relative=relative).double()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def batch_of(n_words: list[int], spans: list[list[tuple[int, int]]], dim: int = 8, seed: int = 0) -> list[Tensor]:
    """Arguments of forward for posts of so many words with such objects; padding holds noise."""
    generator = torch.Generator().manual_seed(seed)
    n_text, n_objects = max(n_words) + 2, max(map(len, spans))
    text = torch.randn(len(n_words), n_text, dim, dtype=torch.float64, generator=generator)
    objects = torch.randn(len(n_words), n_objects, dim, dtype=torch.float64, generator=generator)
    text_mask = torch.arange(n_text)[None] < torch.tensor(n_words)[:, None] + 2
    object_mask = torch.arange(n_objects)[None] < torch.tensor([len(own) for own in spans])[:, None]
    ends = torch.full((len(n_words), n_objects, 2), 10**6)
    for post, own in enumerate(spans):
        ends[post, : len(own)] = torch.tensor(own, dtype=torch.int64).view(-1, 2)
    return [text, text_mask, objects, ends, object_mask]


def outputs_and_gradients(run: Any, model: FlatInteraction, batch: list[Tensor], text_only: bool) -> list[Tensor]:
    """Real cells of the outputs, then gradients of a fixed function of them: inputs first, then all parameters."""
    text, objects = batch[0].clone().requires_grad_(), batch[2].clone().requires_grad_()
    parts = run(text, batch[1], objects, *batch[3:])
    real = [part * mask[..., None] for part, mask in zip(parts, (batch[1], batch[4]), strict=False)]
    generator = torch.Generator().manual_seed(1)
    loss = sum((torch.randn(part.shape, dtype=torch.float64, generator=generator) * part).sum() for part in real)
    leaves = [text, objects, *model.parameters()]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return real[: 1 if text_only else 2] + [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, gradients, strict=True)
    ]


def assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        error = (one.detach().double() - other.detach()).abs().max().item() if one.numel() else 0.0
        assert error <= tolerance, f"tensor {number}: {error}"


def slow(model: FlatInteraction, text_only: bool = False) -> Any:
    state: dict[str, Tensor] = dict(model.named_parameters())

    def run(*batch: Any) -> tuple[Tensor, ...]:
        return oracle.interaction(state, model.heads, *batch)[: 1 if text_only else 2]

    return run


def fast(model: FlatInteraction, text_only: bool = False) -> Any:
    if not text_only:
        return model
    return lambda *batch: (model.forward_text(*batch),)


@pytest.fixture(scope="module", params=CASES)
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    path = GOLDEN / f"{request.param}.npz"
    if not path.exists():
        pytest.skip(f"no golden vectors at {GOLDEN}")
    return {key: torch.from_numpy(value) if value.ndim else value.item() for key, value in np.load(path).items()}


def loaded(z: dict[str, Any], dtype: torch.dtype) -> tuple[FlatInteraction, Projection, dict[str, str]]:
    """Both modules with the golden weights, and the golden name of each of their parameters."""
    model = FlatInteraction(z["d"], z["h"], z["l"], 4 * z["d"])
    projection = Projection(z["W1"].shape[1], z["W2"].shape[1], z["d"])
    names = {"position.weight": "W_r"}
    for number in range(z["l"]):
        names |= {f"layers.{number}.{key}": f"layer{number}.{name}" for key, name in LAYER_KEYS.items()}
    model.double().load_state_dict({key: z[name] for key, name in names.items()}, strict=True)
    projection.double().load_state_dict({key: z[name] for key, name in PROJECTION_KEYS.items()}, strict=True)
    return model.to(z["W1"].device, dtype), projection.to(z["W1"].device, dtype), names


BF16_TOLERANCE = 0.02  # relative difference of the outputs; docs/performance.md states it


@torch.no_grad()
def test_golden_outputs_in_bfloat16(golden: dict[str, Any]) -> None:
    z, n_text, mask = golden, golden["T"], golden["mask"]
    model, projection, _ = loaded(z, torch.float32)
    spans = torch.stack([z["head"][:, n_text:], z["tail"][:, n_text:]], dim=-1)
    with torch.autocast("cpu", torch.bfloat16):
        text, objects = projection(z["word"].float(), z["obj"].float())
        found = torch.cat(model(text, mask[:, :n_text], objects, spans, mask[:, n_text:]), dim=1)
    last = z[f"out_layer{z['l'] - 1}"][mask]
    difference = (found[mask].double() - last).norm() / last.norm()
    assert 0 < difference < BF16_TOLERANCE


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("device", DEVICES)
def test_golden_outputs_and_gradients(
    golden: dict[str, Any], device: str, dtype: torch.dtype, tolerance: float
) -> None:
    z = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in golden.items()}
    n_text, mask, last = z["T"], z["mask"], z[f"out_layer{z['l'] - 1}"]
    model, projection, names = loaded(z, dtype)
    text, objects = projection(z["word"].to(dtype), z["obj"].to(dtype))
    spans = torch.stack([z["head"][:, n_text:], z["tail"][:, n_text:]], dim=-1)
    args = (text, mask[:, :n_text], objects, spans, mask[:, n_text:])
    found = torch.cat(model(*args), dim=1)
    torch.testing.assert_close(found[mask].double(), last[mask], atol=tolerance, rtol=0)
    text_alone = model.forward_text(*args)
    real = mask[:, :n_text]
    torch.testing.assert_close(text_alone[real].double(), last[:, :n_text][real], atol=tolerance, rtol=0)
    (found * z["grad_G"].to(dtype)).sum().backward()
    compared = {f"grad.{name}" for name in (*names.values(), *PROJECTION_KEYS.values())}
    assert compared == {key for key in z if key.startswith("grad.")}, "every gradient there is"
    for module, keys in ((model, names), (projection, PROJECTION_KEYS)):
        for key, parameter in module.named_parameters():
            assert parameter.grad is not None
            expected = z[f"grad.{keys[key]}"]
            torch.testing.assert_close(parameter.grad.double(), expected, atol=tolerance, rtol=0)


def test_golden_outputs_of_every_layer(golden: dict[str, Any]) -> None:
    z, n_text = golden, golden["T"]
    model, projection, _ = loaded(z, torch.float64)
    text, objects = projection(z["word"], z["obj"])
    spans = torch.stack([z["head"][:, n_text:], z["tail"][:, n_text:]], dim=-1)
    for number in range(z["l"]):
        shallow = copy.deepcopy(model)
        shallow.layers = shallow.layers[: number + 1]
        found = torch.cat(shallow(text, z["mask"][:, :n_text], objects, spans, z["mask"][:, n_text:]), dim=1)
        expected = z[f"out_layer{number}"]
        torch.testing.assert_close(found[z["mask"]], expected[z["mask"]], atol=1e-9, rtol=0)


HAND_MADE: dict[str, tuple[list[int], list[list[tuple[int, int]]]]] = {
    "nested": ([5], [[(1, 5), (2, 4), (3, 3), (1, 5)]]),
    "overlapping and equal": ([4, 2], [[(1, 3), (2, 4), (2, 4)], [(1, 2)]]),
    "from CLS to SEP": ([3, 1], [[(0, 4)], [(0, 2), (2, 2)]]),
    "turned round": ([4], [[(4, 1), (3, 0)]]),
    "no objects at all": ([3, 1], [[], []]),
    "no objects in one post": ([2, 3], [[], [(1, 3)]]),
    "one word": ([1], [[(1, 1)]]),
}


@pytest.mark.parametrize("text_only", [False, True])
@pytest.mark.parametrize("case", HAND_MADE)
def test_equals_the_oracle_by_hand(case: str, text_only: bool) -> None:
    model, batch = model_of(), batch_of(*HAND_MADE[case])
    found = outputs_and_gradients(fast(model, text_only), model, batch, text_only)
    assert_close(found, outputs_and_gradients(slow(model, text_only), model, batch, text_only), 1e-10)


@st.composite
def posts(draw: st.DrawFn) -> tuple[list[int], list[list[tuple[int, int]]]]:
    n_words = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    place = [st.tuples(st.integers(0, n + 1), st.integers(0, n + 1)) for n in n_words]
    return n_words, [draw(st.lists(own, max_size=3)) for own in place]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(posts(), st.sampled_from([(6, 1, 1), (8, 4, 1), (6, 3, 2)]), st.booleans(), st.booleans())
def test_equals_the_oracle_anywhere(
    drawn: tuple[list[int], list[list[tuple[int, int]]]], sizes: tuple[int, int, int], text_only: bool, chunked: bool
) -> None:
    dim, heads, layers = sizes
    model, batch = model_of(dim, heads, layers), batch_of(*drawn, dim=dim)
    with pytest.MonkeyPatch.context() as patch:
        if chunked:  # as long batches are cut on CPU
            patch.setattr(interaction, "ATTENTION_ROWS", 1)
            patch.setattr(interaction, "LOOK_UP_ROWS", 3)
        found = outputs_and_gradients(fast(model, text_only), model, batch, text_only)
    assert_close(found, outputs_and_gradients(slow(model, text_only), model, batch, text_only), 1e-9)


@pytest.mark.filterwarnings("ignore:TF32")
@pytest.mark.parametrize("library", ["oneDNN", "BLAS"])
@pytest.mark.parametrize("text_only", [False, True])
def test_float32_of_either_library_is_near_the_oracle(library: str, text_only: bool) -> None:
    exact, batch = model_of(16, 4, 3), batch_of([7, 3, 5], [[(1, 7), (2, 3)], [(1, 1)], [(1, 5), (4, 5), (0, 6)]], 16)
    model = copy.deepcopy(exact).float()
    low = [part.float() if part.is_floating_point() else part for part in batch]
    with torch.backends.mkldnn.flags(enabled=library == "oneDNN"):
        found = outputs_and_gradients(fast(model, text_only), model, low, text_only)
    expected = outputs_and_gradients(fast(exact, text_only), exact, batch, text_only)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-4 * max(1.0, other.detach().abs().max().item()), rtol=0)


@pytest.mark.parametrize("text_only", [False, True])
def test_padding_changes_nothing(text_only: bool) -> None:
    model = model_of()
    spans = [[(1, 4), (2, 3)], [(1, 1)]]
    small = batch_of([4, 1], spans)
    wide = batch_of([4, 1, 9], [*spans, [(1, 9)] * 5], seed=3)
    n_text, n_objects = small[0].shape[1], small[2].shape[1]
    wide[0][:2, :n_text], wide[2][:2, :n_objects] = small[0], small[2]
    real = small[1], small[4]
    for one, other, mask in zip(fast(model, text_only)(*small), fast(model, text_only)(*wide), real, strict=False):
        torch.testing.assert_close(one[mask], other[:2, : one.shape[1]][mask], atol=1e-12, rtol=0)
    alone = outputs_and_gradients(fast(model, text_only), model, small, text_only)
    assert not alone[-1].isnan().any()
    text_gradient = alone[1 if text_only else 2]
    assert not text_gradient[~small[1]].any()


@pytest.mark.parametrize("text_only", [False, True])
def test_without_gradient_groups_of_posts_give_the_same(monkeypatch: pytest.MonkeyPatch, text_only: bool) -> None:
    model, batch = model_of(), batch_of([5, 2, 4], [[(1, 5)], [(1, 2), (2, 2)], []])
    with_gradient = fast(model, text_only)(*batch)
    monkeypatch.setattr(interaction, "STACK_ROWS", 14)  # two posts of seven cells
    with torch.no_grad():
        without = fast(model, text_only)(*batch)
    for one, other, mask in zip(without, with_gradient, (batch[1], batch[4]), strict=False):
        torch.testing.assert_close(one[mask], other[mask], atol=1e-12, rtol=0)


@pytest.mark.parametrize("baseline", [Ordinary, UniqueTuples])
def test_the_baselines_of_the_bench_compute_the_same(baseline: type[Ordinary]) -> None:
    model, batch = model_of(), batch_of([5, 2], [[(1, 5), (2, 3)], [(1, 2)]])
    other = baseline(8, 2, 2, 16).double()
    other.load_state_dict(model.state_dict(), strict=True)
    assert_close(
        outputs_and_gradients(other, other, batch, False), outputs_and_gradients(model, model, batch, False), 1e-10
    )


def test_without_position_terms_it_is_vanilla_self_attention() -> None:
    model, batch = model_of(relative=False), batch_of([3, 2], [[(1, 3)], []])
    assert not [key for key in model.state_dict() if "position" in key or "content_bias" in key]
    found = outputs_and_gradients(model, model, batch, False)
    assert_close(found, outputs_and_gradients(slow(model), model, batch, False), 1e-10)
    moved = [*batch[:3], batch[3] * 0, batch[4]]
    torch.testing.assert_close(model(*moved)[0], model(*batch)[0])


def test_state_dict_has_the_agreed_keys() -> None:
    model = FlatInteraction(dim=8, heads=2, layers=2, ffn_dim=32, dropout=0.1)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    expected: dict[str, tuple[int, ...]] = {"position.weight": (8, 32)}
    for number in range(2):
        own = f"layers.{number}"
        expected |= {
            f"{own}.attention.{name}.weight": (8, 8)
            for name in ("query", "key_content", "key_position", "value", "output")
        }
        expected |= {f"{own}.attention.{name}": (2, 4) for name in ("content_bias", "position_bias")}
        expected |= {f"{own}.norm{n}.{name}": (8,) for n in (1, 2) for name in ("weight", "bias")}
        expected |= {f"{own}.ffn.0.weight": (32, 8), f"{own}.ffn.0.bias": (32,)}
        expected |= {f"{own}.ffn.2.weight": (8, 32), f"{own}.ffn.2.bias": (8,)}
    assert shapes == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_as_accurate_as_ordinary_code(dtype: torch.dtype) -> None:
    totals = torch.zeros(2)
    for seed in range(8):
        exact = model_of(32, 4, 1, seed=seed)
        batch = batch_of([9, 3, 6], [[(1, 9), (2, 3)], [(1, 1)], [(4, 6)]], 32, seed)
        expected = outputs_and_gradients(exact, exact, batch, False)
        low = [part.float() if part.is_floating_point() else part for part in batch]
        ordinary = Ordinary(32, 4, 1, 64).double()
        ordinary.load_state_dict(exact.state_dict())
        for number, model in enumerate((exact.float(), ordinary.float())):
            with torch.autocast("cpu", dtype=dtype):
                found = outputs_and_gradients(model, model, low, False)
            gaps = [(one - other).norm() / other.norm() for one, other in zip(found, expected, strict=True)]
            totals[number] += torch.stack(gaps).mean().item() / 8
    assert 0 < totals[0] < 1.4 * totals[1] < 0.1


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    model, batch = FlatInteraction(8, 2, 1, 16, dropout=0.5).double(), batch_of([4], [[(1, 4)]])
    assert not torch.equal(model(*batch)[0], model(*batch)[0])
    model.eval()
    assert torch.equal(model(*batch)[0], model(*batch)[0])


def test_a_table_made_while_predicting_serves_training() -> None:
    model, batch = model_of(), batch_of([4], [[(1, 4)]])
    with torch.inference_mode():
        model.forward_text(*batch)
    outputs_and_gradients(model, model, batch, False)


def test_wrong_values_are_named() -> None:
    with pytest.raises(DataError, match=r"dim must be a multiple of heads \(found dim 10, heads 3\)"):
        FlatInteraction(10, 3, 1, 20)
    model, batch = model_of(), batch_of([2], [[(1, 4)]])
    with pytest.raises(
        DataError, match=r"an object's span lies outside the text \(found positions 1\.\.4 of 4 text cells\)"
    ):
        model(*batch)


def test_nothing_of_pairs_of_text_cells_times_the_width_is_made() -> None:
    """The largest tensor of a pass with text alone is the scores or the feed-forward part, not B x T x T x D."""
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            sizes.extend(part.numel() for part in torch.utils._pytree.tree_leaves(out) if isinstance(part, Tensor))
            return out

    dim, n_posts, n_text = 32, 2, 40
    model, batch = model_of(dim, 2, 1), batch_of([n_text - 2] * n_posts, [[]] * n_posts, dim)
    with Watch():
        outputs_and_gradients(model, model, batch, False)
    assert max(sizes) < n_posts * n_text * n_text * dim / 4


def test_projection_takes_posts_without_objects() -> None:
    projection = Projection(5, 7, 8)
    text, objects = projection(torch.randn(2, 3, 5), torch.zeros(2, 0, 7))
    assert (text.shape, objects.shape) == ((2, 3, 8), (2, 0, 8))
    text.sum().backward()
    assert projection.text.weight.grad is not None
