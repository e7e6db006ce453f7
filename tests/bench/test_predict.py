"""The bench of predictions says what it measured; a thousand raw posts stream in bounded memory."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from bench.predict import main
from tests.imports import ROOT

WARM_MS = 150  # of a processor for one post, warm, with MiniLM and EfficientNet-Lite2
GROWTH_MIB = 48  # of the process between the 100th and the 1,000th post; a post's images and features are 1 MiB
pytestmark = pytest.mark.timeout(1200)


def options(trained, out) -> list[str]:
    run, data = trained.run("own", "fmit", 0), trained.data("own")
    named = {"--run": run, "--posts": data / "test.jsonl", "--images": data / "images", "--out": out}
    return [str(one) for pair in named.items() for one in pair]


def test_writes_what_it_prints(trained, tmp_path):
    out = tmp_path / "predict.json"
    result = CliRunner().invoke(
        main,
        [*options(trained, out), "--n", "3", "--stream", "20"],
        catch_exceptions=False,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert result.exit_code == 0
    found = json.loads(out.read_text())
    assert json.loads(result.stdout) == found
    assert (found["run"], found["warm"]["n"], found["stream"]["n_posts"]) == ("own-fmit-0", 3, 20)
    for clock in ("wall_ms", "cpu_ms"):
        assert 0 < found["warm"][clock]["least"] <= found["warm"][clock]["median"]
    assert found["cold"]["this"]["wall_s"] > found["warm"]["wall_ms"]["median"] / 1000


@pytest.mark.long
def test_a_thousand_posts_stream_in_bounded_memory(trained, tmp_path):
    out = tmp_path / "predict.json"
    command = [sys.executable, "-m", "bench.predict", *options(trained, out), "--n", "4", "--stream", "1000"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    found = json.loads(out.read_text())
    assert found["stream"]["n_posts"] == 1000
    assert found["stream"]["grown_mib"] < GROWTH_MIB
    assert found["warm"]["cpu_ms"]["least"] < WARM_MS
