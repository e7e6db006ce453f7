"""The bench of the store runs in small and says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import store, store_parts
from bench.store_parts import N_OBJECTS, posts, readers, values


def test_writes_what_it_prints_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_parts, "N_READS", 160)
    (tmp_path / "disk").mkdir()
    small = ["--rows", "1000", "--posts", "40", "--folder", str(tmp_path / "disk"), "--out", str(tmp_path / "out.json")]
    result = CliRunner().invoke(store.main, small, catch_exceptions=False)
    assert result.exit_code == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert list((tmp_path / "disk").iterdir()) == []
    (rows,), (reading,), (change,), (table,) = (found[name] for name in ("store", "reading", "change", "tables"))
    assert (rows["rows"], rows["n_missing"]) == (1000, 1000)
    assert 0 < rows["open_s"] < rows["process_mb"]
    assert reading["pack_to_map"] == pytest.approx(reading["pack_per_s"] / reading["map_per_s"])
    assert (change["changed_files"], change["buckets"]) == (1, 64)
    assert 8 * 4096 / 1e6 < change["uploaded_mb"] < change["pack_mb"] / 10
    assert (table["n_read"], table["posts"]) == (40, 40)
    assert f"{'pack_to_h5py':>20}" in result.output


def test_pack_map_and_h5py_read_the_same_numbers(tmp_path: Path) -> None:
    measure = store_parts.measure_reading(tmp_path, 30)
    assert measure["posts"] == 30
    for order in ([3], [7, 29], [0]):
        read = {name: work().copy() for name, work in readers(tmp_path / "pack", tmp_path / "plain.h5", order).items()}
        wanted = values(order[-1] * N_OBJECTS, N_OBJECTS)
        assert all((found == wanted).all() for found in read.values()), order


def test_only_the_changed_post_differs() -> None:
    pairs = zip(posts(3), posts(3, changed=1), strict=True)
    assert [(before.features != after.features).all() for (_, before), (_, after) in pairs] == [False, True, False]
