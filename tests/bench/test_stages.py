"""The bench of the stages runs at a tiny size, counts what it says it counts, and its shares are ratios of one run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

from bench import stages, timing


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "images"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (60, 80, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def measured(tmp_path: Path, *arguments: object) -> dict:
    out = tmp_path / "figures.json"
    tail = ["--runs", "1", "--plain", "2", "--no-compile", "--workers", "0", "--out", str(out)]
    stages.main([*map(str, arguments), *tail])
    return json.loads(out.read_text())


@pytest.mark.parametrize(
    "arguments",
    [
        ("regions", "--net", "resnet18", "--items", 4, "--batch", 2),
        ("regions", "--net", "efficientnet-lite2", "--items", 4, "--batch", 2),
        ("ground", "--net", "tiny", "--items", 3),
        ("ground", "--net", "nanodet-g", "--items", 3),
    ],
)
def test_images(arguments: tuple, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(timing.PEAK_SIDE, "cpu", 128)
    found = measured(tmp_path, *arguments, "--photos", photos)
    check(found)
    assert ("stage without its passes" in found["rates"]) is (arguments[0] == "regions")
    assert "stage without its passes" not in found["share_of_peak"]


def test_phrases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(timing.PEAK_SIDE, "cpu", 128)
    check(measured(tmp_path, "phrases", "--items", 6))


def check(found: dict) -> None:
    rates = found["rates"]
    assert {"stage", "plain loop", found["best_bare"]} <= set(rates)
    best, stage = rates[found["best_bare"]]["per_s"], rates["stage"]["per_s"]
    assert found["stage_of_best_bare_wall"] == pytest.approx(stage / best), "one run: the ratio of its rates"
    assert found["stage_over_plain_loop_wall"] == pytest.approx(stage / rates["plain loop"]["per_s"])
    share = found["share_of_peak"]["stage"]
    assert share == pytest.approx(stage * found["flops_an_item"] / found["peak_flops_per_s"])
    assert found["machine"]["torch"] == torch.__version__


def test_the_peak_is_the_highest_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([2.0, 8.0, 4.0])
    monkeypatch.setattr(timing, "peak_flops", lambda *_: next(looks))
    runs = {name: (lambda: None, 1) for name in ("bare: a", "stage", "plain loop")}
    assert timing.compare(runs, 3, 1.0, "cpu", "float32")["peak_flops_per_s"] == 8.0


def test_all_stages(tmp_path: Path) -> None:
    found = measured(tmp_path, "all", "--items", 64)
    for name in ("computed", "from store"):
        assert set(found[name]["share"]) == {"ingest", "phrases", "ground", "regions"}
        assert sum(found[name]["share"].values()) == pytest.approx(1)
        assert found[name]["posts_per_s"] == pytest.approx(
            found[name]["n_posts"] / sum(found[name]["seconds"].values())
        )


def test_flops_are_counted_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(8 * 16, 5, bias=False))
    with torch.no_grad():
        found = timing.count_flops(lambda: net(torch.zeros(2, 3, 4, 4)))
    assert found == 2 * 2 * (3 * 8 * 9 * 16 + 8 * 16 * 5)


def test_the_best_form_is_the_fastest(capsys: pytest.CaptureFixture[str]) -> None:
    import time

    forms = {name: lambda s=seconds: time.sleep(s) for name, seconds in (("a", 0.03), ("b", 0.0), ("c", 0.015))}
    assert timing.choose(forms, 0, 1) == ["b", "c"]
    assert capsys.readouterr().out.count("a second in a short trial") == 3
