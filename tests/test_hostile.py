"""Posts of people who mean harm, all the way: words, ids, image names and labels are inert wherever they are shown.

Pages, terminal, CSV files, predictions, contact sheet, model card, doctor: nothing runs, nothing controls a terminal,
nothing turns the reading direction, and what a machine reads has lost nothing.
"""

import csv
import json
import re
import unicodedata
from html.parser import HTMLParser

import PIL.Image
import pytest
from click.testing import CliRunner

import cli
from tests.browser import CHROMIUM, Browser

WORDS = [
    "<script>alert(1)</script>", "javascript:alert(2)", "\"onmouseover='alert(3)'",
    "</script><img src=x onerror=alert(4)>",
    "\u202e\u2066reversed", "\x1b[31m\x00bell\x07", "w" * 5000, "=cmd()", "{{7*7}}", "&lt;b&gt;", "\u2028", "]]>-->",
    "\x9b31m", "[x](javascript:alert(5))", "`a`|b", "\ufeff", "@SUM(A1)", "+1",
]  # fmt: skip
NAMES = [
    "<img src=x onerror=alert(6)>.png", "=cmd().png", "\x1b[31mred.png", "javascript:alert(7).png", "a\u202egnp.png",
    "\"quoted'.png", "../../outside.png", "/etc/passwd", "nul\x00.png", "w" * 5000 + ".png",
]  # fmt: skip
IDS = [
    "<script>alert(8)</script>",
    "=cmd()",
    "\x1b[31mred",
    "javascript:alert(9)",
    "\u202eturned",
    "../up",
    "a\"b'c",
    "%00",
]
TYPES = {"=cmd()": "<script>alert(10)</script>", "<b>B</b>": "\x1b[31mred", "PER": "person"}
TURNS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u2028\u2029")
PARAMS = {
    "datasets": ["own"],
    "train_on": ["own"],
    "approaches": ["fmit"],
    "seeds": [0],
    "data": {
        "own": {
            "source": {"preset": "jsonl", "labels": TYPES, "aliases": {}},
            "phrases": {"preset": "embedded"},
            "ground": {"grounder": "whole-image"},
            "regions": {"preset": "tiny"},
            "train": {"preset": "tiny", "epochs": 1},
        }
    },
}
RUN, BASELINE = "runs/own-fmit-0", "runs/own-bert-crf-0"
SPLITS = ["--split", "dev", "--split", "test"]
TABLES_PAGE = "tables/index.html"
PAGES = [f"{RUN}/report.html", "sheet.html", "post.html", "compare.html", TABLES_PAGE]


def row(at: int) -> dict:
    kinds = [f"B-{name}" for name in TYPES]
    labels = [kinds[(at + k) % 3] if (at + k) % 2 else "O" for k in range(len(WORDS))]
    return {"id": IDS[at % len(IDS)], "tokens": WORDS, "labels": labels, "images": [NAMES[at % len(NAMES)]]}


def inert(text: str) -> bool:
    """Nothing in it can do a terminal, or an eye, anything."""
    return not [char for char in text if char != "\n" and (unicodedata.category(char) == "Cc" or char in TURNS)]


class Tags(HTMLParser):
    """What a browser would make elements of."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def copy_gold(path) -> None:
    """Replace a run's predictions by the gold entities, so that the approaches differ on some posts."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line["entities"] = [one | {"confidence": 0.5} for one in line["gold"]]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The dataset after all stages, trained on, scored and reported, and what every command printed on the way."""
    root = tmp_path_factory.mktemp("hostile")
    images = root / "data/own/images"
    images.mkdir(parents=True)
    (root / "params.yaml").write_text(json.dumps(PARAMS))
    for split, n in (("train", 10), ("dev", 8), ("test", 10)):
        text = "".join(json.dumps(row(at)) + "\n" for at in range(n))
        (root / f"data/own/{split}.jsonl").write_text(text)
    for name in NAMES[:6]:
        PIL.Image.new("RGB", (60, 40), "teal").save(images / name, format="PNG")
    calls = [
        ["doctor"], *([stage, "own"] for stage in ("ingest", "phrases", "ground", "regions")),
        ["train", "--dataset", "own"], ["evaluate", "--run", RUN, *SPLITS],
        ["report", "--run", RUN],
        ["sheet", "own", "--out", "sheet.html"], ["export", "--run", RUN, "--out", "entities.csv"],
        ["export", "--run", RUN, "--out", "entities.json"], ["show", "=cmd()", "--dataset", "own"],
        ["show", "=cmd()", "--dataset", "own", "--html", "post.html"], ["summary"],
        ["predict", "data/own/test.jsonl", "--run", RUN, "--images", "data/own/images"],
        ["compare", RUN, RUN, "--split", "dev", "--html", "compare.html"],
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("FMIT_STORE", raising=False)
        printed = {tuple(call): CliRunner().invoke(cli.main, call) for call in calls}
        for call in (["train", "--dataset", "own", "--approach", "bert-crf"], ["evaluate", "--run", BASELINE, *SPLITS]):
            assert CliRunner().invoke(cli.main, call).exit_code == 0
        copy_gold(root / RUN / "scores/predictions-test.jsonl")
        printed["tables",] = CliRunner().invoke(cli.main, ["tables"])
    for call, result in printed.items():
        assert result.exit_code == 0, (call, result.output[-2000:])
    return root, printed


def test_no_command_prints_what_controls_a_terminal(project):
    for call, result in project[1].items():
        assert inert(result.stdout), call
        assert inert(result.stderr), call
    (shown,) = (result for call, result in project[1].items() if call[0] == "show" and "--html" not in call)
    assert "<script>alert(1)</script>" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) < 1000


def test_no_cell_of_any_csv_is_a_formula(project):
    files = sorted(project[0].rglob("*.csv"))
    ours = [path.name for path in files if "tables" not in path.parts and BASELINE.split("/")[1] not in path.parts]
    assert ours == ["entities.csv", "confusion.csv", "confusion-dev.csv", "confusion-test.csv"]
    assert {"figure3-own-1.csv", "figure4-own-entities.csv"} <= {path.name for path in files}
    for path in files:
        rows = list(csv.reader(path.open(encoding="utf-8", newline="")))
        assert len(rows) > 1, path
        assert {len(one) for one in rows} == {len(rows[0])}
        for cell in (cell for one in rows for cell in one):
            assert inert(cell)
            assert not re.match(r"\s*[=+\-@|%＝＋－＠]", cell), (path, cell)
        if "tables" not in path.parts or path.name == "figure4-own-entities.csv":
            assert "'=cmd()" in {cell for one in rows for cell in one}


@pytest.mark.parametrize("name", PAGES)
def test_pages_hold_only_our_elements(project, name):
    tags = Tags()
    tags.feed((project[0] / name).read_text(encoding="utf-8"))
    assert sum(tag == "script" for tag, _ in tags.found) <= 2
    assert not [tag for tag, _ in tags.found if tag in ("iframe", "object", "b>", "i")]
    pil_images = [attributes["src"] for tag, attributes in tags.found if tag == "img"]
    assert all(one.startswith("data:image/") for one in pil_images)
    assert bool(pil_images) == (name == TABLES_PAGE)  # the other pages' scripts place theirs
    assert any("Content-Security-Policy" in str(attributes.get("http-equiv")) for _, attributes in tags.found)
    for tag, attributes in tags.found:
        assert not [key for key in attributes if key.startswith("on")], (tag, attributes)
        assert not str(attributes.get("href", "")).lower().startswith("javascript"), attributes
    text = (project[0] / name).read_text(encoding="utf-8")
    assert inert(text)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")
def test_pages_run_nothing_and_ask_nobody(project):
    with Browser() as browser:
        for name in PAGES:
            browser.size(1280, 900)
            path = project[0] / name
            browser.open(path)
            browser.run("document.querySelectorAll('button').forEach(button => button.click())")
            asked = {url for url in browser.requests if not url.startswith(("data:", "blob:"))}
            assert asked <= {path.resolve().as_uri()}, name
            assert browser.console == [], name
            assert browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0, name


def test_machines_lose_nothing(project):
    (result,) = (result for call, result in project[1].items() if call[0] == "predict")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 10
    assert all(line["words"] == WORDS for line in lines)
    assert [line["images"][0]["name"] for line in lines] == NAMES
    assert [line["images"][0]["state"] for line in lines] == ["ok"] * 6 + ["refused"] * 3 + ["missing"]
    stored = (project[0] / RUN / "scores/predictions-test.jsonl").read_text(encoding="utf-8")
    assert inert(stored)
    assert [json.loads(line)["words"] for line in stored.splitlines()] == [WORDS] * 10


def test_the_card_is_text_alone(project):
    card = (project[0] / RUN / "model/card.md").read_text(encoding="utf-8")
    assert inert(card)
    assert "alert(10)" in card
    assert not re.search(r"(?<!\\)<(script|b)>", card)


def test_the_tables_are_text_alone(project):
    text = (project[0] / "tables/tables.md").read_text(encoding="utf-8")
    assert inert(text)
    assert "alert(1)" in text  # a post of Figure 3
    assert not re.search(r"(?<!\\)<(script|b|img)\b", text)
    assert not re.search(r"(?<!\\)\[x(?<!\\)\]\(", text)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table
