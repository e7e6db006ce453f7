import json
import re

import pytest

from report import html
from schema.errors import RunError
from tests.report.examples import LABELS, Maker, write_run

HOSTILE = (
    "<script>alert(1)</script>", "javascript:alert(2)", "\"onmouseover='alert(3)'",
    "</script><img src=x onerror=alert(4)>", "\u202e\u2066reversed", "\x1b[31m\x00bell\x07", "w" * 5000, "=cmd()",
    "{{7*7}}", "&lt;b&gt;", "\ud800", "\u2028", "]]>-->",
)  # fmt: skip


def hostile_line(maker, at):
    value = maker.post(at)
    name = HOSTILE[at % len(HOSTILE)]
    value |= {"words": list(HOSTILE), "id": re.sub(r"[\x00-\x1f\x7f/\\]", "_", f"{name[:60]}{at}")}
    value["gold"] = [{"start": 0, "end": 1, "type": "PER"}]
    value["entities"] = [{"start": 0, "end": 2, "type": f"<i>{name}", "confidence": 0.5}]
    value["images"][0]["name"] = name
    for one in value["objects"]:
        one |= {"start": None, "end": None, "text": name}
    return value


@pytest.fixture
def made(tmp_path):
    """A function from options to (the page, its data)."""

    def make(lines_of=None, n=30, config=None, synthetic=False, **options):
        maker = Maker(5)
        lines = lines_of(maker) if lines_of else {"test": [maker.post(at) for at in range(n)]}
        run = write_run(tmp_path / "smoke-fmit-0", lines, synthetic=synthetic, **(config or {}))
        html.write(run, tmp_path / "report.html", load_image=maker.load, **options)
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        return page, json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])

    return make


def test_a_page_shows_the_scores(made, tmp_path):
    page, data = made()
    metrics = json.loads((tmp_path / "smoke-fmit-0/scores/metrics-test.json").read_text())
    micro = metrics["strict"]["micro"]
    assert f"<dt>F1, strict</dt><dd>{100 * micro['f1']:.1f}</dd>" in page
    assert f"<dt>Gold entities</dt><dd>{micro['n_gold']}</dd>" in page
    for name in LABELS:
        assert f"{100 * metrics['strict']['types'][name]['recall']:.1f}</td>" in page
    assert len(data["posts"]) == 30
    assert "Synthetic models." not in page
    assert "out of date" not in page


def test_numbers_of_the_kinds_add_up_to_the_scores(made, tmp_path):
    page, _ = made()
    micro = json.loads((tmp_path / "smoke-fmit-0/scores/metrics-test.json").read_text())["strict"]["micro"]
    cells = re.findall(r'data-kind="(\d)"[^>]*>([\d,]+)<', page)
    by_kind = [sum(int(n) for kind, n in cells if int(kind) == at) for at in range(6)]
    assert by_kind[0] == micro["n_correct"]
    assert sum(by_kind[:5]) == micro["n_gold"]
    assert sum(by_kind[:4]) + by_kind[5] == micro["n_predicted"]


def test_synthetic_parts_are_marked(made):
    assert "Synthetic models." in made(synthetic=True)[0]


def test_scores_and_predictions_that_disagree_give_a_warning(made, tmp_path):
    made()
    run = tmp_path / "smoke-fmit-0"
    lines = (run / "scores/predictions-test.jsonl").read_text().splitlines(keepends=True)
    (run / "scores/predictions-test.jsonl").write_text("".join(lines[:-3]))
    html.write(run, tmp_path / "again.html", load_image=Maker().load)
    assert "one of the two files is out of date" in (tmp_path / "again.html").read_text()


def test_the_same_run_gives_the_same_bytes(made, tmp_path):
    maker = Maker(5)
    run = write_run(tmp_path / "one", {"test": [maker.post(at) for at in range(10)]})
    pages = []
    for name in ("a.html", "b.html"):
        html.write(run, tmp_path / name, load_image=maker.load)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


def test_hostile_text_is_never_markup(made):
    config = {"dataset": "<script>alert(5)</script>", "note": {HOSTILE[3]: HOSTILE[0]}, "seed": "\u202e=cmd()"}
    page, data = made(lambda maker: {"test": [hostile_line(maker, at) for at in range(13)]}, config=config)
    assert page.count("<script") == 2
    assert page.count("</script") == 2
    assert "<img" not in page.split('id="data"')[0]
    assert not set("\x00\x07\x1b\u202e\u2066\u2028") & set(page)
    assert "49" not in data["posts"][0]["words"]
    assert "{{7*7}}" in data["posts"][0]["words"]
    assert max(len(word) for word in data["posts"][0]["words"]) < 110


def test_redaction_leaves_no_name_link_or_image_in_the_page(made):
    def lines(maker):
        value = maker.post(0)
        value["words"][:2] = ["@zebulon", "http://secret.example/x"]
        value["entities"] = [{"start": 0, "end": 1, "type": "PER", "confidence": 0.9}]
        return {"test": [value]}

    page, data = made(lines, redact=True)
    for secret in ("zebulon", "secret.example", "data:image/jpeg", "test-00000.png"):
        assert secret not in page
    assert "names, links and images hidden" in page
    assert (data["thumbnails"], data["posts"][0]["words"][:2]) == ([], ["@…", "[link]"])


def test_posts_without_labels_and_splits_without_scores(made):
    def lines(maker):
        return {
            "test": [maker.post(at) for at in range(5)],
            "predict": [maker.post(at, "predict", labelled=False) for at in range(4)],
        }

    page, data = made(lines)
    assert "These posts have no gold labels, or were not scored." in page
    assert "No gold labels, so there are no errors to show." in page
    assert [post["gold"] for post in data["posts"][5:]] == [None] * 4


def test_a_cap_bounds_the_errors_and_the_page_says_so(made):
    page, data = made(lambda maker: {"test": [maker.post(at, error_rate=1.0) for at in range(60)]}, cap=10)
    n_wrong = sum(any(kind for kind, _, _ in post["outcomes"]) for post in data["posts"])
    assert n_wrong == 10
    assert re.search(r"10 of (5\d|60) posts with errors", page)


def test_other_types_need_no_settings(made):
    def lines(maker):
        value = maker.post(0)
        value["gold"] = [{"start": 0, "end": 1, "type": "GENE"}]
        value["entities"] = [{"start": 0, "end": 1, "type": "PROTEIN", "confidence": None}]
        return {"test": [value]}

    page, data = made(lines, config={"labels": [[["GENE", "gene"], ["PROTEIN", "protein"]], []]})
    assert data["types"][:2] == ["GENE", "PROTEIN"]
    assert "Calibration" not in page


def test_very_many_types_do_not_make_the_page_large(made):
    def lines(maker):
        value = maker.post(0)
        words = [f"w{at}" for at in range(800)]
        value |= {"words": words, "objects": [], "entities": []}
        value["gold"] = [{"start": at, "end": at + 1, "type": f"TYPE{at}"} for at in range(800)]
        return {"test": [value]}

    page, data = made(lines)
    assert len(data["types"]) == 804
    assert len(page) < 2_000_000
    assert "Confusion: gold type" not in page


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(RunError, match="a file of the run is missing"):
        html.write(tmp_path, tmp_path / "report.html", load_image=Maker().load)


def test_data_of_no_known_variant_give_a_warning(made):
    page, _ = made(config={"data": {"variant": "", "warning": "no known variant of twitter2015 <b>"}})
    assert '<p class="warn" role="note"><b>Data.</b> No known variant of twitter2015 &lt;b&gt;.</p>' in page


def test_the_variant_of_the_data_is_shown(tmp_path):
    run = write_run(tmp_path / "run", {"test": [Maker(5).post(0)]}, data={"variant": "twitter2015-umt", "warning": ""})
    html.write(run, tmp_path / "report.html", load_image=Maker(5).load)
    page = (tmp_path / "report.html").read_text()
    assert "<span>data <b>twitter2015-umt</b></span>" in page
    assert "<b>Data.</b>" not in page
