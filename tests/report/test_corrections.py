import csv
import io

import pytest

from report.cases import Change, figure4, find_changes
from report.layout import csv_text
from report.results import published
from tests.report.example_runs import make_runs


def changes_of(runs, approach, seed=0):
    sides = (runs.predictions("made", name, seed) for name in ("bert-crf", approach))
    return find_changes(approach, seed, *sides)


def test_changes_are_the_gold_entities_that_one_of_the_two_gets_right(tmp_path):
    runs = make_runs(tmp_path, {"bert-crf": {0, 1}, "fmit": {1, 2}})
    changes = changes_of(runs, "fmit")
    posts = {line.id: line for line in runs.predictions("made", "fmit", 0)}
    assert {(change.post, change.kind) for change in changes} == {
        ("test-00000", "corrected"),
        ("test-00002", "broken"),
    }
    assert len(changes) == sum(len(posts[id_].gold) for id_ in ("test-00000", "test-00002"))
    corrected = next(change for change in changes if change.kind == "corrected")
    assert (corrected.before, corrected.after) == ("", f"{corrected.text} {corrected.type}")


def test_counts_are_means_over_the_seeds_that_both_have(tmp_path):
    runs = make_runs(tmp_path, {"bert-crf": {0, 1}, "fmit": {1, 2}, "umt": set()}, seeds=(0, 1))
    del runs.runs["made", "umt", 1]
    table, bars, changes = figure4(runs, published(), "made")
    n_gold = [len(line.gold) for line in runs.predictions("made", "fmit", 0)]
    assert bars == {"FMIT": [n_gold[0], n_gold[2]], "UMT": [n_gold[0] + n_gold[1], 0]}
    rows = {row.label: row.cells for row in table.rows}
    assert [cell.value for cell in rows["FMIT"]] == [n_gold[0], n_gold[2], n_gold[0] - n_gold[2]]
    assert rows["FMIT"][0].sd == 0  # two seeds
    assert rows["UMT"][0].value == n_gold[0] + n_gold[1]
    assert rows["UMT"][0].sd is None  # one seed
    expected = [changes_of(runs, "fmit", 0), changes_of(runs, "fmit", 1), changes_of(runs, "umt", 0)]
    assert changes == [change for some in expected for change in some]


def test_nothing_to_compare_without_bert_crf(tmp_path):
    table, bars, changes = figure4(make_runs(tmp_path, {"fmit": set()}), published(), "made")
    assert (table.rows, bars, changes) == ([], {}, [])


@pytest.mark.parametrize("redact", [True, False])
def test_the_list_reads_back_as_csv(tmp_path, redact):
    runs = make_runs(tmp_path, {"bert-crf": {0}, "fmit": set()})
    changes = figure4(runs, published(), "made", redact=redact)[2]
    text = csv_text(Change._fields, [change._asdict() for change in changes])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["text"] for row in rows] == [change.text for change in changes]
