"""Tables 1 to 5 from runs whose scores are known."""

import json
import statistics
from collections import Counter
from dataclasses import replace

import pytest

from report.layout import Number
from report.results import Fusion, count_splits, data_tables, published, score_tables, speed_table
from tests.report.example_runs import make_runs

PAPER = published()


def row(table, label):
    return next(one for one in table.rows if one.label == label)


def cells(table, label):
    return dict(zip([column.title for column in table.columns], row(table, label).cells, strict=True))


@pytest.fixture
def runs(tmp_path):
    return make_runs(tmp_path, {"fmit": {1}, "bert-crf": {0, 2, 3}}, seeds=(0, 1))


def test_data_statistics_count_entities_and_posts(runs):
    made, twitter2015, twitter2017 = data_tables(runs, PAPER)
    counts = count_splits(runs, "made")
    gold = Counter(
        tag[2:] for post in runs.table("made").posts if post.split == "test" for tag in post.tags if tag[0] == "B"
    )
    assert {name: counts["test"][name] for name in gold} == gold
    assert cells(made, "posts") == {"ours train": Number(5, None, 0), "ours test": Number(6, None, 0)}
    assert cells(made, "all entities")["ours test"].value == sum(gold.values())
    assert cells(twitter2017, "PER")["paper dev"].value == 626
    assert cells(twitter2015, "posts")["ours train"] is None


def test_scores_are_means_over_seeds_in_percent(runs, tmp_path):
    path = runs.runs["made", "fmit", 1]["made"] / "metrics-test.json"
    metrics = json.loads(path.read_text())
    metrics["strict"]["micro"]["f1"] = 0.5
    path.write_text(json.dumps(metrics))
    found = cells(score_tables(runs, PAPER, "table5")[0], "FMIT")
    first = json.loads((runs.runs["made", "fmit", 0]["made"] / "metrics-test.json").read_text())["strict"]
    both = [100 * first["micro"]["f1"], 50.0]
    assert found["ours F1"] == Number(pytest.approx(statistics.mean(both)), pytest.approx(statistics.stdev(both)))
    assert found["ours PER"].value == pytest.approx(100 * first["types"]["PER"]["f1"])
    assert "paper F1" not in found


def test_rows_without_runs_say_so(runs):
    table = score_tables(runs, PAPER, "table5")[0]
    assert row(table, "FMIT").remark == ""
    assert row(table, "w/o EBD").remark == "not run"
    assert set(row(table, "w/o EBD").cells) == {None}
    assert {one.group for one in table.rows} == {"The paper's", "Further", "Controls"}


def test_the_papers_figures_are_shown_beside_ours_for_its_datasets(runs):
    _, twitter2015, _ = score_tables(runs, PAPER, "table2")
    found = cells(twitter2015, "UMT")
    assert [found[f"paper {name}"].value for name in ("PER", "MISC", "P", "F1")] == [85.24, 39.45, 71.67, 73.41]
    assert found["ours F1"] is None
    assert row(twitter2015, "UMT").remark == "not run: no posts of twitter2015"
    assert row(twitter2015, "control: random boxes").cells[0] is None


def test_only_the_papers_types_have_columns_of_the_paper(runs):
    ours = replace(runs, posts={"twitter2015": runs.posts["made"]}, runs={})
    assert "paper PER" in [column.title for column in score_tables(ours, PAPER, "table2")[0].columns]


def test_cross_domain_scores_are_those_on_the_other_dataset(runs, tmp_path):
    scored = {}
    for seed in (0, 1):
        folders = runs.runs["made", "fmit", seed]
        there = tmp_path / "on" / str(seed)
        there.mkdir(parents=True)
        metrics = json.loads((folders["made"] / "metrics-test.json").read_text())
        metrics["strict"]["micro"]["f1"] = 0.25 + seed / 2
        (there / "metrics-test.json").write_text(json.dumps(metrics))
        scored["made", "fmit", seed] = {**folders, "other": there}
    crossed = replace(runs, posts={**runs.posts, "other": runs.posts["made"]}, runs={**runs.runs, **scored})
    first, *papers = score_tables(crossed, PAPER, "table4")
    assert cells(first, "FMIT")["ours F1"].value == pytest.approx(50)
    assert row(first, "BERT-CRF").remark == "not scored: 2 not scored on other, test split"
    assert row(first, "UMT").remark == "not run"
    assert [one.name for one in papers] == ["table4-twitter2017-to-twitter2015", "table4-twitter2015-to-twitter2017"]
    assert cells(papers[0], "UMGF")["paper F1"].value == 66.21
    assert any("harmonic mean" in note for note in papers[0].notes)


def test_synthetic_parts_are_marked_in_every_table_of_scores(runs):
    def marked(tables):
        return {table.name for table in tables if any("Synthetic models" in note for note in table.notes)}

    assert not marked([*score_tables(runs, PAPER, "table2"), *score_tables(runs, PAPER, "table5")])
    path = runs.runs["made", "fmit", 1]["made"] / "metrics-test.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"synthetic": True}))
    assert marked([*score_tables(runs, PAPER, "table2"), *score_tables(runs, PAPER, "table5")]) == {
        "table2-made",
        "table5-made",
    }


def test_speed_and_size_beside_the_papers():
    rows = [
        {"approach": "umgf", "seconds": 0.4, "parameters": 12.5e6, "speedup": 1.0, "padded_speedup": 1.0},
        {"approach": "fmit-l1", "seconds": 0.1, "parameters": 3e6, "speedup": 4.0, "padded_speedup": 16.0},
        {"approach": "fmit-l1 (ordinary code)", "seconds": 0.2, "parameters": 3e6, "speedup": 2.0},
    ]
    table = speed_table(Fusion.model_validate({"rows": rows, "notes": ["16 posts"]}), PAPER)
    found = cells(table, "FMIT (l = 1)")
    assert [one.value for one in found.values()] == [27.73, 12, 100, 4, 3, 16]
    assert cells(table, "fmit-l1 (ordinary code)")["paper speedup"] is None
    assert cells(table, "fmit-l1 (ordinary code)")["ours speedup, padded baselines"] is None
    assert row(table, "UMT").remark == "not measured: see `python -m bench.fusion`"
    assert "16 posts" in table.notes
    assert all(one.remark for one in speed_table(Fusion(rows=()), PAPER).rows)
