"""The bench of a training step runs in small and says what it measured."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from click.testing import CliRunner

from bench.train_step import LENGTHS, made_posts, main


def test_posts_have_real_lengths_and_their_objects() -> None:
    posts, objects = made_posts(400, ["boat", "rome"], 8)
    assert abs(statistics.median(post.n_words for post in posts) - statistics.median(LENGTHS)) <= 2
    for post in posts:
        assert objects[post.id].features.shape == (8, 2048)
        spans = [region.span for region in objects[post.id].regions if region.span]
        assert len(spans) == 3
        assert all(span.end <= post.n_words for span in spans)


def test_writes_what_it_prints(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    small = ["--encoder", "tiny", "--width", "16", "--layers", "1", "--rounds", "1", "--batch", "2,4"]
    result = CliRunner().invoke(main, [*small, "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert [row["batch"] for row in found["rows"]] == [2, 4]
    for row in found["rows"]:
        assert set(row["step_s"]) == {"bare encoder", "bert-crf", "fmit"}
        ratio = row["step_s"]["fmit"] / row["step_s"]["bert-crf"]
        assert row["fmit_over_bert_crf"] == ratio
        assert f"FMIT over BERT-CRF {ratio:.2f}" in result.output
        assert 0 < row["crf_share"] < 1
