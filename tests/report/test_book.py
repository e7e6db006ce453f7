import csv
import json
import re

import pytest

from report.book import TINY, compile_book, publish
from report.layout import Column, Row, Table
from report.pages import policy
from report.results import published, read_fusion
from schema.errors import RunError
from tests.report.made import Maker
from tests.report.made_field import make_field

WRONG = {"fmit": {1}, "bert-crf": {0, 2}, "umt": {3}}


@pytest.fixture
def book(tmp_path):
    field = make_field(tmp_path, WRONG, tiny=True)
    maker = Maker(4)
    for split, n in (("train", 5), ("test", 6)):
        for at in range(n):
            maker.post(at, split, error_rate=0.0)  # the same pictures as the field's
    more = Table("grounding-made", "Grounded <entities>", (Column("F1"),), (Row("a", ("x",)),))
    return compile_book(field, published(), {"made": maker.load}, more=[more], n_cases=3)


def test_every_table_has_its_csv_and_stands_in_markdown_and_page(book, tmp_path):
    page, text = publish(book, tmp_path / "out")
    html, together = page.read_text(), text.read_text()
    names = {path.stem for path in (tmp_path / "out").glob("*.csv")}
    assert {table.name for table in book.tables} <= names
    for table in book.tables:
        assert f"### {table.title}".replace("<", "&lt;").replace("|", "\\|") in together
        assert f'id="{table.name}"' in html
    assert {"table1-made", "table2-made", "table3", "table5-made", "figure4-made", "breakdown-made"} <= names
    assert {"calibration-made", "grounding-made", "figure4-made-entities", "table2-twitter2017"} <= names
    assert "figure3-made-1" in names
    assert TINY in html
    assert TINY in together
    assert "Grounded &lt;entities&gt;" in html


def test_the_page_asks_nobody_and_runs_no_script_but_its_own(book, tmp_path):
    html = publish(book, tmp_path / "out")[0].read_text()
    style = re.search(r"<style>(.*?)</style>", html, re.S)[1]
    assert policy(style, "").replace("'", "&#39;") in html
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    assert html.count("data:image/jpeg;base64,") == 3
    assert html.count("<svg") == 4  # reliability of three approaches, and the bars


def test_the_list_of_changed_entities_is_there(book, tmp_path):
    publish(book, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "figure4-made-entities.csv").open()))
    assert {row["approach"] for row in rows} == {"fmit", "umt"}


def test_names_and_pictures_are_hidden_when_asked(tmp_path):
    field = make_field(tmp_path, WRONG)
    book = compile_book(field, published(), {"made": Maker(4).load}, redact=True)
    assert "data:image" not in publish(book, tmp_path / "out")[0].read_text()


def test_nothing_trained_is_said_and_no_error(tmp_path):
    field = make_field(tmp_path, {})
    text = publish(compile_book(field, published(), {}), tmp_path / "out")[1].read_text()
    assert "Nothing to show: no runs for it." in text
    assert "not run" in text


def test_a_second_publication_replaces_the_first(book, tmp_path):
    publish(book, tmp_path / "out")
    (tmp_path / "out" / "figure3-old-1.csv").write_text("x")
    publish(book, tmp_path / "out")
    assert not (tmp_path / "out" / "figure3-old-1.csv").exists()


def test_figures_of_the_bench_are_read_where_they_are(tmp_path):
    assert read_fusion(tmp_path / "fusion.json") is None
    (tmp_path / "fusion.json").write_text(json.dumps({"rows": []}))
    assert read_fusion(tmp_path / "fusion.json") == {"rows": []}


def test_a_folder_with_other_files_is_left_alone(book, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match=r"mine: this folder would be replaced.*found thesis.txt\); name a new"):
        publish(book, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    publish(book, tmp_path / "ours")
    publish(book, tmp_path / "ours")
