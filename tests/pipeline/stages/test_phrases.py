"""posts.parquet to phrases.parquet: the pure function with files around it."""

import pytest

from cache import tables
from pipeline.engine import Tally
from pipeline.phrases import stage as phrases_stage
from pipeline.phrases.config import PhrasesConfig
from pipeline.phrases.parser import Parsed
from pipeline.phrases.stage import find_phrases
from tests.pipeline.drawn import LABELS, post

CONFIG = PhrasesConfig()


class FakeParser:
    """The first two words of a sentence are its noun phrase."""

    identity = {"name": "fake", "version": "1"}  # noqa: RUF012

    def __init__(self):
        self.n_sentences = 0

    def parse(self, sentences):
        self.n_sentences += len(sentences)
        return [Parsed(((0, min(2, len(words)), "NP"),)) for words in sentences]


@pytest.fixture
def parser(monkeypatch):
    made = FakeParser()
    monkeypatch.setattr(phrases_stage, "open_parser", lambda config: made)
    return made


def run(folder, posts, config=CONFIG):
    tables.write_posts(folder / "posts.parquet", posts, LABELS, {})
    return phrases_stage.run(config, folder / "posts.parquet", folder / "phrases.parquet", folder / "store")


def test_published_with_its_provenance_and_resumed_from_the_store(tmp_path, parser):
    posts = [post("a", words="old trees stand"), post("b", words="young dogs run far")]
    assert run(tmp_path, posts) == Tally("phrases", 2, 2)
    found, meta = tables.read_phrases(tmp_path / "phrases.parquet")
    assert found == find_phrases(posts, PhrasesConfig(), FakeParser())[0]
    assert [one.phrases[0].text for one in found] == ["old trees", "young dogs"]
    assert meta["phrases"]["identity"] == parser.identity
    assert PhrasesConfig.checked(meta["phrases"]["config"], "x") == PhrasesConfig()
    before, parser.n_sentences = (tmp_path / "phrases.parquet").read_bytes(), 0
    (tmp_path / "phrases.parquet").unlink()
    assert run(tmp_path, posts) == Tally("phrases", 2, 0)
    assert (tmp_path / "phrases.parquet").read_bytes() == before
    assert run(tmp_path, [*posts, post("c", words="big cats sleep")]) == Tally("phrases", 3, 1)
    assert parser.n_sentences == 1


def test_what_the_cap_cuts_is_told(tmp_path, parser):
    posts = [post("a", words="old trees stand"), post("b", words="young dogs run far")]
    assert run(tmp_path, posts, PhrasesConfig(max_phrases=0)) == Tally("phrases", 2, 2, 2)
