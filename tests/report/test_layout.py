import csv
import io

import pytest

from report.layout import Column, Number, Row, Table, markdown, mean, table_csv

TABLE = Table(
    "one",
    "Scores | of <b>",
    (Column("F1", "paper"), Column("P", "ours"), Column("F1", "ours")),
    (
        Row("a|b", (Number(71.3), None, Number(80.126, 0.5)), "Text"),
        Row("=c", (None, Number(50), "x"), "Text", "not run: gone"),
        Row("d", (None, None, None), "Controls"),
    ),
    ("a note",),
)


def test_a_mean_has_the_sample_deviation_where_there_are_two():
    found = mean([1.0, 3.0, 5.0])
    assert (found.value, found.sd) == (3.0, 2.0)
    assert str(found) == "3.00 ± 2.00"
    assert str(mean([2.5])) == "2.50"
    assert mean([]) is None
    assert str(Number(6176, None, 0)) == "6,176"


def test_columns_of_a_group_share_a_heading():
    assert TABLE.column_groups() == [("paper", 1), ("ours", 2)]


def test_whether_a_table_has_figures_of_ours():
    columns = (Column("F1", "paper"), Column("F1", "ours"))
    none, partly = Row("a", (Number(1.0), None), remark="not run"), Row("b", (None, Number(2.0)), remark="1 of 3 seeds")
    assert not Table("t", "T", columns, (none,)).has_ours
    assert Table("t", "T", columns, (none, partly)).has_ours


def test_markdown_line_by_line():
    assert markdown(TABLE).splitlines() == [
        "### Scores \\| of &lt;b>",
        "",
        "|  | paper F1 | ours P | ours F1 | remark |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| **Text** |  |  |  |  |",
        "| a\\|b | 71.30 | – | 80.13 ± 0.50 |  |",
        "| =c | – | 50.00 | x | not run: gone |",
        "| **Controls** |  |  |  |  |",
        "| d | – | – | – |  |",
        "",
        "- a note",
    ]


def test_csv_has_the_deviations_in_columns_of_their_own_and_no_formula():
    rows = list(csv.DictReader(io.StringIO(table_csv(TABLE))))
    assert list(rows[0]) == ["group", "row", "paper F1", "ours P", "ours F1", "ours F1 sd", "remark"]
    assert float(rows[0]["ours F1"]) == pytest.approx(80.126)
    assert float(rows[0]["ours F1 sd"]) == 0.5
    assert (rows[1]["row"], rows[1]["remark"], rows[1]["ours F1"]) == ("'=c", "not run: gone", "x")
    assert rows[2]["paper F1"] == ""


def test_nothing_in_markdown_is_a_link_code_or_an_element():
    hostile = r"[x](javascript:1) `a`|b <b> \\"
    told = r"\[x\](javascript:1) \`a\`\|b &lt;b> \\\\"
    table = Table("t", hostile, (Column(hostile),), (Row(hostile, (hostile,), hostile, hostile),), (hostile,))
    text = markdown(table)
    assert text.count(told.rstrip()) == 7
    assert hostile not in text
