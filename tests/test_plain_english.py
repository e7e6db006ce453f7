"""The words that design section 5 replaces do not come back: one idea has one word, and it is the field's."""

import re
import subprocess

import pytest

from tests.imports import ROOT

# Whole words and parts of snake_case or CamelCase names. Words with an ordinary meaning of their own (recall the
# measure, state, known) are left to reviewers.
REPLACED = {
    r"shel(f|ves)": "shard directory",
    r"spools?": "staging file",
    r"undrawn": "synthetic-image guard",
    r"mend(s|ed|ing)?": "compat, or fix",
    r"[Kk]eepers?": "Checkpointer",
    r"quicken": "use_onednn",
    r"rate_share": "lr_multiplier",
    r"lenders?": "donor permutation",
    r"sinks?": "trackers",
    r"rivals?": "baseline",
    r"pictures?": "image",
    r"toys?": "synthetic",
    r"rooms?": "package",
    r"(Box|Grid)Chain": "FeaturePipeline",
    r"is none of": "is not one of",
    r"that is none": "is not",
    r"nobody": "no one, or say what is missing",
}
PATTERN = "|".join(REPLACED)
WORD = re.compile(rf"(?<![A-Za-z])({PATTERN})(?![a-z])|(?<![A-Z])(Shelf|Spool|Rival|Picture|Toy|Room)(?![a-z])")
# Values that go into stored keys or files keep the name that they had when they were first written.
ALLOWED = re.compile(r"toy-onestage|toy-resnet|paper\.md|\^pictures|nobody (nothing|at home)")
SUFFIXES = (".py", ".md", ".yaml", ".jinja", ".cfg", ".toml")
OWN = "tests/test_plain_english.py"


def files() -> list[str]:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return [name for name in tracked.splitlines() if name.endswith(SUFFIXES) and name != OWN]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs git's list of files")
def test_replaced_words_do_not_come_back():
    found = []
    for name in files():
        path = ROOT / name
        if path.is_file():
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if match := WORD.search(ALLOWED.sub("", line)):
                    found.append(f"{name}:{number}: {match.group()}: {line.strip()[:80]}")
    assert not found, f"{len(found)} lines, such as\n" + "\n".join(found[:40])


def test_the_pattern_finds_names_and_prose():
    for text in ("a toy part", "allow_toy", "ToyError", "pictures", "Shelf", "is_rival", "nobody knows"):
        assert WORD.search(text), text
    for text in ("history", "mushroom", "recommend", "sinking", "goalkeepers"):
        assert not WORD.search(text), text
