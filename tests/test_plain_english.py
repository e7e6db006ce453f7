"""The words that the glossary of the design replaces do not come back: each idea has one word, the field's own."""

import re
import subprocess

import pytest

from tests.imports import ROOT

REPLACED = {  # as whole words and as parts of names; words that also have an ordinary meaning are left to reviewers
    r"shel(f|ves)": "shard directory",
    r"spools?": "staging file",
    r"undrawn": "synthetic-image guard",
    r"mend(s|ed|ing)?": "fix, or compat (of a library)",
    r"quicken": "use_onednn",
    r"rate_share": "lr_multiplier",
    r"lenders?": "donor permutation",
    r"sinks": "trackers",
    r"rivals?": "baseline",
    r"pictures?": "image",
    r"toys?": "synthetic",
    r"Keeper|RunKeeper": "Checkpointer",
    r"(Box|Grid)Chain": "FeaturePipeline",
    r"is none of": "is not one of",
    r"that is none": "is not",
    r"(no|any) evidence that": "not evidence that",
    r"smoke shards?|shard_rng": "the dataset smoke; a shard is a file of the store",
    r"synthetic parts?": "synthetic models",
    r"GoldThing|ThingSpec": "GoldObject, ObjectSpec",
    r"n_right": "n_correct",
}
WORD = re.compile(rf"(?<![A-Za-z])({'|'.join(REPLACED)})(?![a-z])|(?<![A-Z])(Shelf|Spool|Rival|Picture|Toy)(?![a-z])")
# Values in stored keys and old packs keep their first names; corpora and users write "picture" where they please.
ALLOWED = re.compile(r"toy-onestage|[\"']toy[\"']|\"pictures?\"|\|picture\|")
SUFFIXES = (".py", ".md", ".yaml", ".jinja", ".js", ".css", ".cfg", ".toml")
OWN = "tests/test_plain_english.py"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs git's list of files")
def test_replaced_words_do_not_come_back():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    matches = []
    for name in tracked.splitlines():
        path = ROOT / name
        if name.endswith(SUFFIXES) and name != OWN and path.is_file():
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if match := WORD.search(ALLOWED.sub("", line)):
                    matches.append(f"{name}:{number}: {match.group()}: {line.strip()[:80]}")
    assert not matches, f"{len(matches)} lines, such as\n" + "\n".join(matches[:40])


@pytest.mark.parametrize("text", ["a toy part", "allow_toy", "ToyError", "pictures", "Shelf", "is_rival", "mended"])
def test_the_pattern_matches_names_and_prose(text):
    assert WORD.search(text)


@pytest.mark.parametrize("text", ["history", "recommend", "sinking", "sink = pa.BufferOutputStream()", "shelter"])
def test_the_pattern_leaves_other_words(text):
    assert not WORD.search(text)
