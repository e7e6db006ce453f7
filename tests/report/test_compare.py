"""Paired bootstrap: against one written by hand, and on counts whose answer is known."""

import json
import random
import re

import numpy as np
import pytest

from report import compare
from report.compare import bootstrap, compare_runs, counts_of
from schema.errors import RunError
from tests.report.examples import Maker, prediction, write_run


def by_hand(first, second, n_resamples, seed):
    """Loops, no shared code: F1 difference of each resample, interval by sorted values, p by counting."""
    rng = np.random.default_rng(seed)
    n_posts = len(first)

    def f1(rows):
        gold, given, right = (sum(row[at] for row in rows) for at in range(3))
        precision, recall = right / given if given else 0.0, right / gold if gold else 0.0
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    spread = []
    for _ in range(n_resamples):
        drawn = [int(rng.integers(0, n_posts)) for _ in range(n_posts)]
        spread.append(f1([first[at] for at in drawn]) - f1([second[at] for at in drawn]))
    n_low, n_high = sum(one <= 1e-12 for one in spread), sum(one >= -1e-12 for one in spread)
    return f1(first) - f1(second), sorted(spread), min(1.0, 2 * (1 + min(n_low, n_high)) / (1 + n_resamples))


def made_counts(seed, n_posts, skill):
    hand = random.Random(seed)
    rows = []
    for _ in range(n_posts):
        n_gold, n_given = hand.randrange(4), hand.randrange(4)
        rows.append((n_gold, n_given, sum(hand.random() < skill for _ in range(min(n_gold, n_given)))))
    return rows


@pytest.mark.parametrize(("seed", "n_posts"), [(0, 1), (1, 7), (2, 40)])
def test_it_agrees_with_a_bootstrap_written_by_hand(seed, n_posts, monkeypatch):
    monkeypatch.setattr(compare, "CHUNK_DRAWS", 5 * n_posts)  # several chunks
    first, second = made_counts(seed, n_posts, 0.8), made_counts(seed + 90, n_posts, 0.6)
    second = [(a[0], max(b[1], b[2]), min(b[2], a[0])) for a, b in zip(first, second, strict=True)]  # same gold
    found = bootstrap(np.array(first), np.array(second), n_resamples=203, seed=5)
    difference, spread, p = by_hand(first, second, 203, 5)
    assert found.difference == pytest.approx(difference, abs=1e-12)
    assert found.p == pytest.approx(p)
    # the interval: linear interpolation between order statistics
    for value, share in ((found.low, 0.025), (found.high, 0.975)):
        at = share * (len(spread) - 1)
        below, above = spread[int(at)], spread[min(int(at) + 1, len(spread) - 1)]
        assert value == pytest.approx(below + (at - int(at)) * (above - below), abs=1e-12)


def test_equal_runs_do_not_differ():
    counts = np.array(made_counts(3, 30, 0.7))
    found = bootstrap(counts, counts, n_resamples=100)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_difference_on_every_post_is_certain_and_one_on_a_single_post_is_not():
    right, wrong = np.array([(1, 1, 1)] * 50), np.array([(1, 1, 0)] * 50)
    assert bootstrap(right, wrong, n_resamples=999).p == pytest.approx(2 / 1000)
    nearly = wrong.copy()
    nearly[0] = (1, 1, 1)
    assert bootstrap(nearly, wrong, n_resamples=999).p > 0.5
    assert bootstrap(wrong, right, n_resamples=999).high == -1


def test_counts_of_a_post_are_those_of_its_strict_entities():
    line = Maker(1).post(0)
    line["gold"] = [{"start": 0, "end": 1, "type": "PER"}, {"start": 2, "end": 3, "type": "LOC"}]
    line["entities"] = [
        {"start": 0, "end": 1, "type": "PER", "confidence": 0.5},
        {"start": 2, "end": 3, "type": "ORG", "confidence": 0.5},
        {"start": 3, "end": 4, "type": "ORG", "confidence": 0.5},
    ]
    assert counts_of([prediction(line)]).tolist() == [[2, 3, 1]]


@pytest.fixture
def runs(tmp_path):
    posts = [Maker(1).post(at, error_rate=0.0) for at in range(12)]
    worse = json.loads(json.dumps(posts))
    worse[3]["entities"] = []
    worse[5]["entities"][0]["type"] = "PER" if worse[5]["entities"][0]["type"] != "PER" else "LOC"
    return write_run(tmp_path / "a", {"test": posts}), write_run(tmp_path / "b", {"test": worse})


def test_the_posts_that_differ_are_listed(runs):
    found = compare_runs(*runs)
    assert [one.id for one in found.differences] == ["test-00003", "test-00005"]
    assert [one.better for one in found.differences] == [1, 1]
    assert found.bootstrap.first_f1 == 1 > found.bootstrap.second_f1
    assert compare_runs(runs[1], runs[0]).differences[0].better == 2
    value = found.to_json()
    assert value["difference"] == found.bootstrap.difference
    assert value["differences"][0]["second"] == []
    assert json.loads(json.dumps(value)) == value


def test_different_posts_words_or_labels_are_refused(tmp_path, runs):
    posts = [Maker(1).post(at, error_rate=0.0) for at in range(12)]
    fewer = write_run(tmp_path / "fewer", {"test": posts[:11]})
    with pytest.raises(RunError, match=r"not scored on the same posts .found 1 posts in only one of them, test-00011"):
        compare_runs(runs[0], fewer)
    turned = write_run(tmp_path / "turned", {"test": posts[::-1]})
    with pytest.raises(RunError, match="found different orders"):
        compare_runs(runs[0], turned)
    posts[2]["words"][0] = "other"
    said = write_run(tmp_path / "said", {"test": posts})
    with pytest.raises(RunError, match="post test-00002 has different words or labels"):
        compare_runs(runs[0], said)
    posts[1]["gold"][0]["type"] = "MISC" if posts[1]["gold"][0]["type"] != "MISC" else "LOC"
    other = write_run(tmp_path / "other", {"test": posts})
    with pytest.raises(RunError, match="post test-00001 has different words or labels"):
        compare_runs(runs[0], other)


def test_both_runs_need_the_split(tmp_path, runs):
    with pytest.raises(RunError, match=re.escape("a: not scored on dev (found test)")):
        compare_runs(*runs, "dev")
    dev = write_run(tmp_path / "dev", {"dev": [Maker(1).post(0, "dev")]})
    with pytest.raises(RunError, match=r"no split that both runs were scored on .found test and dev"):
        compare_runs(runs[0], dev)


def test_the_page_escapes_and_redacts(tmp_path, runs):
    found = compare_runs(*runs)
    one = found.differences[0]
    evil = compare.Difference(one.id, ("<script>", "@ann", "x"), one.gold[:0], (), (), 0)
    shown = compare.Comparison("a", "b", "test", found.bootstrap, (evil,), True)
    compare.write_html(shown, tmp_path / "page.html", redact=True)
    page = (tmp_path / "page.html").read_text()
    assert "&lt;script&gt; @… x" in page
    assert "@ann" not in page
    assert "Synthetic models" in page
