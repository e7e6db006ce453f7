"""The data file against the paper's own arithmetic, and against its text where that is at hand."""

import re
from pathlib import Path

import pytest

from model.approaches import APPROACHES
from pipeline.corpus.variants import PAPER as INGEST
from pipeline.corpus.variants import PAPER_TYPES
from report.results import published
from report.runs import RANDOM_BOXES

PAPER = Path(__file__).resolve().parents[3] / "shared" / "paper.md"
SLIPS = {("table4", "twitter2017 > twitter2015", "umgf")}  # the paper's own: said in the table's note


def rows():
    for table, places in published().scores.items():
        for place, figures in places.items():
            for approach, figure in figures.items():
                yield pytest.param((table, place, approach), figure, id=f"{table} {place} {approach}")


@pytest.mark.parametrize(("place", "figure"), rows())
def test_f1_is_the_harmonic_mean_of_p_and_r(place, figure):
    precision, recall, f1 = figure[4:]
    agrees = abs(2 * precision * recall / (precision + recall) - f1) < 0.011
    assert agrees != (place in SLIPS)
    assert len(figure) == len(published().types) + 3


def test_types_add_up_to_all_entities():
    for splits in published().table1.values():
        for counts in splits.values():
            assert sum(counts[name] for name in published().types) == counts["all"]


@pytest.mark.parametrize(("place", "figure"), rows())
def test_the_paper_has_the_figures_in_this_order(place, figure):
    if not PAPER.is_file():
        pytest.skip("the paper's text is not beside the repository")
    numbers = re.findall(r"\d+\.\d+", PAPER.read_text(encoding="utf-8"))
    wanted = [f"{value:.2f}" for value in figure]
    width = len(wanted)
    assert any(numbers[at : at + width] == wanted for at in range(len(numbers)))


def test_every_row_is_an_approach_with_a_name():
    named = published().approaches("table2", "table4", "table5")
    assert set(named) <= {*APPROACHES, RANDOM_BOXES}
    assert set(named) <= set(published().names)
    assert {row for table in published().scores.values() for some in table.values() for row in some} <= set(named)
    assert set(published().table3) <= set(published().names)


def test_each_table_of_scores_has_the_controls():
    for table in ("table2", "table4", "table5"):
        controls = published().rows[table]["Controls"]
        assert {"fmit-shuffled", "fmit-empty", "fmit-random-boxes"} <= set(controls)


def test_the_ablations_full_model_is_the_one_of_three_layers():
    for name, figures in published().scores["table5"].items():
        assert figures["fmit"] == published().scores["table2"][name]["fmit-l3"]


def test_table_1_is_the_one_that_ingest_shows():
    names = (*PAPER_TYPES, "all", "posts")
    shown = {
        corpus: {split: dict(zip(names, counts, strict=True)) for split, counts in splits.items()}
        for corpus, splits in INGEST.items()
    }
    assert published().table1 == shown
