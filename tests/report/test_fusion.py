"""Table 3's file: what bench.fusion wrote is taken, anything else is refused with its place and what to do."""

import json

import pytest

from report.results import read_fusion
from schema.errors import RunError

ROW = {"approach": "umgf", "seconds": 0.4, "speedup": 1.0, "parameters": 9e6, "padded_speedup": None}


def test_the_measurements_are_read(tmp_path):
    path = tmp_path / "fusion.json"
    assert read_fusion(path).rows == ()
    values = {"rows": [ROW, ROW | {"padded_speedup": 3, "more": 1}], "notes": ["one thread"], "machine": "x"}
    path.write_text(json.dumps(values))
    fusion = read_fusion(path)
    assert [row.padded_speedup for row in fusion.rows] == [None, 3]
    assert (fusion.rows[0].approach, fusion.rows[0].seconds, fusion.notes) == ("umgf", 0.4, ("one thread",))
    path.write_text('{"rows": []}')
    assert read_fusion(path).rows == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"junk", "not readable as JSON"),
        (b"\xff\xfe", "not readable as JSON"),
        (b"[]", r"not a JSON object \(found list\)"),
        (b"{}", "fusion.json rows: missing"),
        (b'{"rows": 3, "notes": []}', r"fusion.json rows: .* \(found 3\)"),
        (b'{"rows": [], "notes": [1]}', "fusion.json notes.0: "),
        (b'{"rows": [1]}', r"fusion.json rows.0: .* \(found 1\)"),
        (json.dumps({"rows": [ROW, {"approach": "umt"}]}).encode(), "fusion.json rows.1.seconds: missing"),
        (json.dumps({"rows": [ROW | {"speedup": "fast"}]}).encode(), "rows.0.speedup: .*found 'fast'"),
        (json.dumps({"rows": [ROW | {"seconds": float("nan")}]}).encode(), r"rows.0.seconds: .*finite .*found nan"),
        (json.dumps({"rows": [ROW | {"padded_speedup": []}]}).encode(), r"rows.0.padded_speedup: "),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, text, message):
    path = tmp_path / "fusion.json"
    path.write_bytes(text)
    with pytest.raises(RunError, match=message) as caught:
        read_fusion(path)
    assert str(caught.value).endswith("remove the file and measure again (python -m bench.fusion --out FILE)")
    assert str(path) in str(caught.value)


def test_a_folder_instead_of_the_file_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"not readable as JSON .*directory"):
        read_fusion(tmp_path)
