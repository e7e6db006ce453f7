"""Table 3's file: what bench.fusion wrote is taken, anything else is refused with its place and what to do."""

import json

import pytest

from report.results import read_fusion
from schema.errors import RunError

ROW = {"approach": "umgf", "seconds": 0.4, "speedup": 1.0, "parameters": 9e6, "padded_speedup": None}


def test_what_was_measured(tmp_path):
    path = tmp_path / "fusion.json"
    assert read_fusion(path) is None
    for values in ({"rows": [ROW, ROW | {"padded_speedup": 3}], "notes": ["one thread"]}, {"rows": []}):
        path.write_text(json.dumps(values))
        assert read_fusion(path) == values


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"junk", "not readable as JSON"),
        (b"\xff\xfe", "not readable as JSON"),
        (b"[]", r"not a JSON object \(found list\)"),
        (b"{}", r"no figures of bench.fusion \(found {}\)"),
        (b'{"rows": 3, "notes": []}', r"no figures of bench.fusion \(found rows, notes\)"),
        (b'{"rows": [], "notes": [1]}', "no figures of bench.fusion"),
        (b'{"rows": [1]}', r"rows.0: a row names its approach \(found 1\)"),
        (json.dumps({"rows": [ROW, {"approach": "umt"}]}).encode(), r"rows.1.seconds: no finite number \(found None\)"),
        (json.dumps({"rows": [ROW | {"speedup": "fast"}]}).encode(), r"rows.0.speedup: no finite number"),
        (json.dumps({"rows": [ROW | {"seconds": float("nan")}]}).encode(), r"rows.0.seconds: no finite .*found nan"),
        (json.dumps({"rows": [ROW | {"padded_speedup": []}]}).encode(), r"rows.0.padded_speedup: no finite number"),
    ],
)
def test_junk(tmp_path, text, told):
    path = tmp_path / "fusion.json"
    path.write_bytes(text)
    with pytest.raises(RunError, match=told) as caught:
        read_fusion(path)
    assert str(caught.value).endswith("remove the file: `fmit tables --step measure` measures again")
    assert str(path) in str(caught.value)


def test_a_folder_in_its_place(tmp_path):
    with pytest.raises(RunError, match=r"not readable as JSON .*directory"):
        read_fusion(tmp_path)
