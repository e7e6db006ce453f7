"""Table 3's bench: published sizes, equal work at equal shape, and the JSON that the tables read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from bench import fusion
from bench.ordinary import PairGate
from model.baselines.umgf import Gate

pytestmark = pytest.mark.filterwarnings("ignore:TF32")


@torch.no_grad()
def test_a_gate_of_pairs_equals_the_gate() -> None:
    torch.manual_seed(0)
    gate, pairs = Gate(4), PairGate(4)
    pairs.load_state_dict(gate.state_dict())
    own, others, edges = torch.randn(2, 5, 4), torch.randn(2, 3, 4), torch.rand(2, 5, 3) > 0.5
    torch.testing.assert_close(pairs(own, others, edges), gate(own, others, edges))


def test_parameters_at_the_published_sizes() -> None:
    shape = fusion.Shape(n_posts=1)
    layer = 4 * 768**2 + (2 * 768 * 3072 + 3072 + 768) + 4 * 768
    assert fusion.umt_side(shape, "cpu").n_parameters == 2048 * 768 + 4 * layer + 2 * 768**2
    feed_forward = 2 * 512 * 256 + 256 + 512
    nodes = 4 * 512**2 + 2 * feed_forward + 3 * 2 * 512 + 2 * 512**2
    mlps = (768 * 512 + 512) + (2048 * 512 + 512) + 2 * (512**2 + 512)
    assert fusion.umgf_side(shape, "cpu").n_parameters == mlps + 2 * 2 * nodes
    projection = (768 * 512 + 512) + (2048 * 512 + 512) + (512**2 + 512)
    lattice = 5 * 512**2 + 2 * 512 + (2 * 512 * 2048 + 2048 + 512) + 4 * 512
    assert fusion.fmit_side(shape, "cpu", 3).n_parameters == projection + 4 * 512**2 + 3 * lattice


def test_all_sides_read_one_batch() -> None:
    text, text_mask, objects, spans, object_mask, regions = fusion.batch_of(fusion.Shape(), "cpu")
    assert text.shape == (16, 34, 768)
    assert objects.shape == (16, 8, 2048)
    assert regions.shape == (16, 49, 2048)
    assert bool(text_mask.all())
    assert bool(object_mask.all())
    assert torch.equal(spans[:, :5], torch.tensor([1, 32]).expand(16, 5, 2))
    head, tail = spans.unbind(-1)
    assert int(head.min()) >= 1
    assert int(tail.max()) <= 32
    assert int((tail - head)[:, 5:].max()) <= 4
    assert fusion.padded(fusion.Shape()).n_words == 128


@torch.no_grad()
def test_sides_give_a_vector_a_word() -> None:
    for name, side in fusion.sides(fusion.TINY, "cpu").items():
        out = side.call()
        n_words = 32 if "padded" in name or "shipped" in name else 8
        extra = 0 if "umgf" in name else 2  # [CLS] and [SEP]
        assert isinstance(out, torch.Tensor)
        assert out.shape[:2] == (2, n_words + extra), name


def test_writes_what_the_tables_read(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    out = tmp_path / "fusion.json"
    try:
        options = ["--tiny", "--rounds", "1", "--out", str(out)]
        printed = CliRunner().invoke(fusion.main, options, catch_exceptions=False)
    finally:
        torch.set_num_threads(before)
    assert printed.exit_code == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    rows = {row["approach"]: row for row in found["rows"]}
    ordinary = [f"fmit-l{depth} (ordinary code)" for depth in (1, 3, 6)]
    assert list(rows) == ["umt", "umgf", "fmit-l1", "fmit-l3", "fmit-l6", *ordinary]
    for row in rows.values():
        assert row["seconds"] == row["cpu_s"] > 0
        assert row["speedup"] == pytest.approx(rows["umgf"]["seconds"] / row["seconds"])
    shipped = rows["fmit-l1"]["padded_speedup"] * rows["fmit-l1"]["seconds"]
    assert rows["umgf"]["padded_speedup"] == 1
    assert rows["fmit-l6"]["padded_speedup"] * rows["fmit-l6"]["seconds"] == pytest.approx(shipped)
    assert shipped > rows["umgf"]["seconds"]
    assert rows["fmit-l3"]["parameters"] == rows["fmit-l3 (ordinary code)"]["parameters"]
    assert "show that the benchmark works" in found["notes"][0]
    assert f"{1000 * shipped:.1f} ms" in found["notes"][-1]
    assert "fmit-l6 (ordinary code)" in printed.output
