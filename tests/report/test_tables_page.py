"""The published folder: a page, Markdown and CSV files of the same tables."""

import csv
import re

import pytest

from report.pages import policy
from report.results import Fusion, published
from report.tables_page import build, publish
from schema.errors import RunError
from tests.report.example_runs import make_runs
from tests.report.examples import Maker

NO_SPEEDS = Fusion(rows=())
WRONG = {"fmit": {1}, "bert-crf": {0, 2}, "umt": {3}}


@pytest.fixture
def sections(tmp_path):
    runs = make_runs(tmp_path, WRONG)
    maker = Maker(4)
    for split, n in (("train", 5), ("test", 6)):
        for at in range(n):
            maker.post(at, split, error_rate=0.0)  # the same images as those of the runs
    return build(runs, published(), {"made": maker.load}, {"made": lambda predictions: {}}, NO_SPEEDS)


def tables(sections):
    return [table for section in sections for table in section.all_tables]


def test_every_table_has_a_csv_file_and_is_in_markdown_and_page(sections, tmp_path):
    page, text = publish(sections, published(), tmp_path / "out")
    html, together = page.read_text(), text.read_text()
    names = {path.stem for path in (tmp_path / "out").glob("*.csv")}
    assert {table.name for table in tables(sections)} <= names
    for table in tables(sections):
        assert f"### {table.title}".replace("<", "&lt;").replace("|", "\\|") in together
        assert f'id="{table.name}"' in html
    assert {"table1-made", "table2-made", "table3", "table5-made", "figure4-made", "breakdown-made"} <= names
    assert {"calibration-made", "grounding-made", "figure4-made-entities", "table2-twitter2017"} <= names
    assert "figure3-made-1" in names


def test_the_page_loads_nothing_and_runs_only_its_own_script(sections, tmp_path):
    html = publish(sections, published(), tmp_path / "out")[0].read_text()
    style = re.search(r"<style>(.*?)</style>", html, re.S)[1]
    assert policy(style, "").replace("'", "&#39;") in html
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    n_cases = sum(name.startswith("figure3") for name in (table.name for table in tables(sections)))
    n_images = html.count("data:image/jpeg;base64,")
    assert 0 < n_images <= n_cases
    assert html.count("no image</p>") == n_cases - n_images
    assert html.count("<svg") == 4  # reliability of three approaches, and the bars


def test_the_list_of_changed_entities_is_written(sections, tmp_path):
    publish(sections, published(), tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "figure4-made-entities.csv").open()))
    assert {row["approach"] for row in rows} == {"fmit", "umt"}


def test_images_are_hidden_on_request(tmp_path):
    runs = make_runs(tmp_path, WRONG)
    sections = build(runs, published(), {"made": Maker(4).load}, {}, NO_SPEEDS, redact=True)
    assert "data:image" not in publish(sections, published(), tmp_path / "out")[0].read_text()


def test_a_project_without_runs_is_no_error(tmp_path):
    sections = build(make_runs(tmp_path, {}), published(), {}, {}, NO_SPEEDS)
    text = publish(sections, published(), tmp_path / "out")[1].read_text()
    assert "No runs for this section." in text
    assert "not run" in text


def test_a_second_publication_replaces_the_first(sections, tmp_path):
    publish(sections, published(), tmp_path / "out")
    (tmp_path / "out" / "figure3-old-1.csv").write_text("x")
    publish(sections, published(), tmp_path / "out")
    assert not (tmp_path / "out" / "figure3-old-1.csv").exists()


def test_a_folder_with_other_files_is_not_touched(sections, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match=r"mine: refusing to replace a folder.*found thesis.txt\); choose a new"):
        publish(sections, published(), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    publish(sections, published(), tmp_path / "ours")
    publish(sections, published(), tmp_path / "ours")
