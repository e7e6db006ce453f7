import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.errors import COLUMNS, entity_rows, export
from report.html import score_rows
from report.layout import csv_text
from schema.text import guarded
from tests.report.examples import Maker, prediction, scores, write_run

FORMULAS = ("=cmd()", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "  =1", "\r\n=1", "|calc", "%x", "＝cmd()", "\u202e=cmd()")


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text):
    assert str(guarded(text)).startswith("'")


@given(st.text(max_size=30))
def test_no_text_becomes_a_formula(text):
    shown = str(guarded(text))
    assert not shown.lstrip().startswith(("=", "+", "-", "@", "|", "%"))


def test_numbers_and_ordinary_text_are_unchanged():
    assert [guarded(value) for value in (-1.5, 3, None, "PER", "a=b", "'")] == [-1.5, 3, None, "PER", "a=b", "'"]


def test_a_csv_reads_back_with_quotes_and_separators_inside():
    text = csv_text(("a", "b"), [{"a": 'say "hi", you', "b": -0.5}, {"a": "line\nend", "b": None}])
    assert list(csv.reader(io.StringIO(text))) == [["a", "b"], ['say "hi", you', "-0.5"], ["line end", ""]]


def test_score_rows_have_the_order_of_the_file_and_both_kinds_of_scores():
    metrics = scores([Maker(2).post(at) for at in range(9)], "test", synthetic=False)
    rows = score_rows(metrics)
    assert [row.type for row in rows] == ["", "PER", "LOC", "ORG", "MISC"]
    assert rows[1].strict == metrics["strict"]["types"]["PER"]
    assert rows[1].lenient == metrics["lenient"]["types"]["PER"]
    assert [row.type for row in score_rows(metrics, ["MISC", "GENE", "LOC"])] == ["", "MISC", "LOC", "PER", "ORG"]
    del metrics["lenient"]
    assert score_rows(metrics)[0].lenient is None


def test_rows_have_words_and_redaction_hides_names():
    line = Maker(2).post(0)
    line |= {"words": ["@someone", "=cmd()", "x"], "objects": [], "entities": [], "split": "dev"}
    line["gold"] = [{"start": 0, "end": 2, "type": "PER"}]
    row = next(entity_rows([prediction(line)]))
    assert (row["kind"], row["gold_text"], row["gold_start"], row["gold_end"]) == ("missed", "@someone =cmd()", 0, 2)
    assert row["predicted_type"] is None
    assert next(entity_rows([prediction(line)], redact=True))["gold_text"] == "@… =cmd()"
    assert "'@someone =cmd()" in csv_text(COLUMNS, entity_rows([prediction(line)]))


def test_export_writes_csv_or_json_with_every_outcome(tmp_path):
    maker = Maker(4)
    run = write_run(tmp_path / "run", {"test": [maker.post(at) for at in range(20)]}, synthetic=True)
    n = export(run, tmp_path / "outcomes.csv")
    read = list(csv.DictReader((tmp_path / "outcomes.csv").open(encoding="utf-8")))
    assert len(read) == n > 20
    assert tuple(read[0]) == COLUMNS
    assert export(run, tmp_path / "outcomes.json") == n
    value = json.loads((tmp_path / "outcomes.json").read_text(encoding="utf-8"))
    assert (value["schema_version"], value["synthetic"], len(value["outcomes"])) == (1, True, n)
