"""A pipeline made here: every word's head is the first one, so its chunks are known."""

import shutil

import pytest
import spacy

from pipeline.phrases import noun_chunks
from schema.errors import WeightsError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from spacy.training import Example

    nlp = spacy.blank("en")
    parser = nlp.add_pipe("parser")
    tagger = nlp.add_pipe("morphologizer", first=True)
    words = ["the", "dog", "saw", "a", "cat"]
    annotation = {
        "words": words,
        "heads": [1, 2, 2, 4, 2],
        "deps": ["det", "nsubj", "ROOT", "det", "dobj"],
        "pos": ["DET", "NOUN", "VERB", "DET", "NOUN"],
    }
    for label in annotation["deps"]:
        parser.add_label(label)
    for label in annotation["pos"]:
        tagger.add_label(f"POS={label}")
    example = Example.from_dict(spacy.tokens.Doc(nlp.vocab, words=words), annotation)
    spacy.util.fix_random_seed(0)
    optimizer = nlp.initialize(lambda: [example])
    for _ in range(30):
        nlp.update([example], sgd=optimizer)
    made = tmp_path_factory.mktemp("spacy") / "pipe"
    nlp.to_disk(made)
    return made


def test_chunks_are_those_of_the_pipeline(folder):
    parser = noun_chunks.open_parser(str(folder)).load()
    (parsed,) = parser.parse([["the", "dog", "saw", "a", "cat"]])
    assert parsed.spans == ((0, 2, "NP"), (3, 5, "NP"))


def test_the_digest_follows_the_files(folder):
    first = noun_chunks.open_parser(str(folder)).load().identity["weights"]
    (folder / "meta.json").write_text((folder / "meta.json").read_text() + " ")
    assert noun_chunks.open_parser(str(folder)).load().identity["weights"] != first


def test_a_pipeline_without_a_parser_is_refused(tmp_path):
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(WeightsError, match="has no dependency parser"):
        noun_chunks.open_parser(str(tmp_path / "blank")).load()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("meta.json", b"{"),
        ("config.cfg", b"{}"),
        ("config.cfg", b""),
        ("parser/model", b"junk"),
        ("parser/cfg", b""),
        ("vocab/strings.json", b"["),
        ("tokenizer", b""),
    ],
)
def test_a_damaged_pipeline_is_one_error(folder, tmp_path, file, content):
    shutil.copytree(folder, tmp_path / "pipe")
    (tmp_path / "pipe" / file).write_bytes(content)
    with pytest.raises(WeightsError, match=r"cannot load the spaCy pipeline '.*pipe' \(found .+\); give its folder"):
        noun_chunks.open_parser(str(tmp_path / "pipe")).load()


def test_a_language_without_noun_chunks_is_told_before_the_first_post(tmp_path):
    nlp = spacy.blank("xx")
    nlp.add_pipe("parser").add_label("ROOT")
    nlp.initialize()
    nlp.to_disk(tmp_path / "pipe")
    with pytest.raises(WeightsError, match=r"spaCy has no noun chunks in this language \(found xx\)"):
        noun_chunks.open_parser(str(tmp_path / "pipe")).load()
