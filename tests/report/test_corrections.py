import csv
import io

from report.cases import LISTED, all_changes, changes, counted, figure4
from report.results import published
from report.tables import csv_text
from tests.report.made_runs import make_runs


def test_changes_are_the_gold_entities_that_one_of_the_two_gets_right(tmp_path):
    runs = make_runs(tmp_path, {"bert-crf": {0, 1}, "fmit": {1, 2}})
    found = list(changes(runs, "made", "fmit", 0))
    posts = {line.id: line for line in runs.lines("made", "fmit", 0)}
    kinds = {(one.post, one.kind) for one in found}
    assert kinds == {("test-00000", "corrected"), ("test-00002", "broken")}
    assert len(found) == sum(len(posts[id_].gold) for id_ in ("test-00000", "test-00002"))
    corrected = next(one for one in found if one.kind == "corrected")
    assert (corrected.before, corrected.after) == ("", f"{corrected.text} {corrected.type}")


def test_counts_are_means_over_the_seeds_that_both_have(tmp_path):
    runs = make_runs(tmp_path, {"bert-crf": {0, 1}, "fmit": {1, 2}, "umt": set()}, seeds=(0, 1))
    del runs.runs["made", "umt", 1]
    found = all_changes(runs, "made")
    counts = counted(runs, "made", found)
    n_gold = [len(line.gold) for line in runs.lines("made", "fmit", 0)]
    assert counts == {"fmit": ([n_gold[0]] * 2, [n_gold[2]] * 2), "umt": ([n_gold[0] + n_gold[1]], [0])}
    rows = {row.label: row.cells for row in figure4(runs, published(), "made", found).rows}
    assert rows["FMIT"][2].value == n_gold[0] - n_gold[2]
    assert rows["UMT"][0].value == n_gold[0] + n_gold[1]


def test_nothing_to_compare_without_bert_crf(tmp_path):
    runs = make_runs(tmp_path, {"fmit": set()})
    assert all_changes(runs, "made") == []
    assert figure4(runs, published(), "made", []).rows == ()


def test_the_list_reads_back_as_csv(tmp_path):
    runs = make_runs(tmp_path, {"bert-crf": {0}, "fmit": set()})
    found = all_changes(runs, "made")
    rows = list(csv.DictReader(io.StringIO(csv_text(LISTED, [one.to_row() for one in found]))))
    assert [row["entity"] for row in rows] == [one.text for one in found]
