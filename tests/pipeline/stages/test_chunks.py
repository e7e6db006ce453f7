"""Stages that read posts in chunks write what they write for all posts at once, and count each row once."""

import pytest

from cache import tables
from pipeline import engine
from pipeline.engine import Tally
from pipeline.grounding import stage as grounding_stage
from pipeline.grounding.config import GroundConfig
from pipeline.phrases import stage as phrases_stage
from pipeline.phrases.config import PhrasesConfig
from pipeline.phrases.parser import Parsed
from pipeline.regions import stage as regions_stage
from pipeline.regions.config import RegionsConfig
from tests.pipeline.drawn import LABELS, FakeGrounder, FakeNet, make_image, post

N_POSTS, N_TEXTS, N_IMAGES = 7, 3, 4


class FirstWords:
    identity = {"name": "first-words"}  # noqa: RUF012

    def parse(self, sentences):
        return [Parsed(((0, 1, "NP"), (0, 2, "NP"))) for _ in sentences]


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Runs all stages into a folder, in chunks of a size; returns tallies, progress and the bytes written."""
    posts = []
    for k in range(N_POSTS):
        images = [make_image(tmp_path / "images", f"{k % N_IMAGES}.png", seed=k % N_IMAGES)] if k != 2 else []
        posts.append(post(f"p{k}", *images, words=f"town {k % N_TEXTS} is far"))
    monkeypatch.setattr(phrases_stage, "open_parser", lambda config: FirstWords())
    monkeypatch.setattr(grounding_stage, "open_grounder", lambda config: FakeGrounder())
    monkeypatch.setattr(regions_stage, "open_net", lambda config: FakeNet())
    tables.write_posts(tmp_path / "posts", posts, LABELS, {})

    def run(name, chunk):
        monkeypatch.setitem(engine.CHUNK, "local", chunk)
        out, calls, given = tmp_path / name, [], [tmp_path / "posts"]
        images, store = tmp_path / "images", out / "store"
        configs = PhrasesConfig(max_phrases=1), GroundConfig(n_phrases_max=0), RegionsConfig(grid=True, n_buckets=2)

        def progress(*call):
            calls.append(call)

        tallies = [phrases_stage.run(configs[0], *given, out / "phrases", store, progress)]
        ground = (*given, out / "phrases", images, out / "boxes", store, progress)
        tallies += [grounding_stage.run(configs[1], *ground)]
        regions = (*given, out / "boxes", images, out / "pack", store, progress)
        tallies += [regions_stage.run(configs[2], *regions)]
        paths = [out / "phrases", out / "boxes", *sorted((out / "pack").rglob("*.*"))]
        return tallies, calls, [path.read_bytes() for path in paths]

    return run


def test_chunks_change_no_byte_and_no_tally(made):
    tallies, calls, written = made("whole", 100)
    assert tallies[0] == Tally("phrases", N_TEXTS, N_TEXTS, n_cut=N_POSTS)
    assert tallies[1] == Tally("ground", 2 * N_IMAGES, 2 * N_IMAGES, n_cut=N_POSTS)
    for chunk in (1, 2, 3):
        again = made(f"chunk {chunk}", chunk)
        assert (again[0], again[2]) == (tallies, written), chunk
        assert again[1][-1] == calls[-1], "the total is an estimate until the last chunk"
        assert all(done <= total for done, total in again[1])


def test_a_second_run_finds_every_row(made):
    _, _, written = made("out", 2)
    tallies, calls, again = made("out", 3)
    assert [tally.n_computed for tally in tallies] == [0, 0, 0]
    assert again == written
    assert calls[:3] == [(3, 7), (3, 3), (3, 3)], "3 rows of 3 posts, then of 6 and 7"


def test_lookup_reads_no_further_than_needed():
    read = []
    lookup = tables.Lookup((read.append(key) or (key, key.upper())) for key in "abcdef")
    assert lookup.take("ab") == {"a": "A", "b": "B"}
    assert read == ["a", "b"]
    assert lookup.take("dc") == {"d": "D", "c": "C"}, "in any order"
    assert lookup.take("xf") == {"f": "F"}, "a post without a row"
