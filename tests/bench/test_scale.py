"""The bench of many posts runs in small, continues where it stopped, and says what a changed post replaced."""

import json

import pytest
from click.testing import CliRunner

from bench import scale


@pytest.fixture
def in_this_process(monkeypatch):
    """Parts run here: a process each takes seconds to import torch. Returns the parts that ran."""
    ran = []

    def run(command, **options):
        part, folder, n_posts = command[4], command[6], int(command[8])
        ran.append(part)
        output = json.dumps(scale.measure(part, scale.Path(folder), n_posts))
        return scale.subprocess.CompletedProcess(command, 0, output)

    monkeypatch.setattr(scale.subprocess, "run", run)
    for module, name in ((scale.parsing, "open_parser"), (scale.regions, "open_net")):
        monkeypatch.setattr(module, name, getattr(module, name))  # the bench replaces them
    return ran


def test_measures_every_part_once(tmp_path, in_this_process):
    arguments = ["--posts", "20,40", "--folder", str(tmp_path / "scale"), "--out", str(tmp_path / "out.json")]
    stopped = CliRunner().invoke(scale.main, [*arguments, "--limit", "0"], catch_exceptions=False)
    assert "stopped before make of 20 posts" in stopped.output
    result = CliRunner().invoke(scale.main, arguments, catch_exceptions=False)
    assert in_this_process == [*scale.PARTS] * 2
    assert "40 posts: one changed post replaces 1 of 64 buckets" in result.output
    small, large = json.loads((tmp_path / "out.json").read_text())
    assert (small["posts"], large["posts"]) == (20, 40)
    for stage in ("phrases", "ground", "regions"):
        assert large[stage]["computed"] == large[stage]["rows"] > 0
        assert large[f"{stage}-stored"]["computed"] == 0
        assert large[f"{stage}-changed"]["computed"] <= 8
    assert large["read"]["rows"] == 40 * 8  # the image, four general words, three phrases
    CliRunner().invoke(scale.main, arguments, catch_exceptions=False)
    assert len(in_this_process) == 2 * len(scale.PARTS), "what was measured is kept"
