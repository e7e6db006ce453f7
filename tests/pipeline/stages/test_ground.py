"""Posts and phrases to boxes.parquet: the pure function with files around it."""

import pytest

from cache import tables
from pipeline.engine import Tally
from pipeline.grounding import stage as grounding_stage
from pipeline.grounding.config import GroundConfig
from schema.errors import SyntheticError
from tests.pipeline.drawn import LABELS, FakeGrounder, make_image, phrases, post


@pytest.fixture
def grounder(monkeypatch):
    made = FakeGrounder()
    monkeypatch.setattr(grounding_stage, "open_grounder", lambda config: made)
    return made


def run(folder, posts, parsed, config=GroundConfig()):  # noqa: B008 - frozen
    tables.write_posts(folder / "posts.parquet", posts, LABELS, {})
    tables.write_phrases(
        folder / "phrases.parquet", parsed, {"phrases": {"config": {"kind": "all"}, "synthetic": False}}
    )
    inputs = folder / "posts.parquet", folder / "phrases.parquet", folder / "images"
    return grounding_stage.run(config, *inputs, folder / "boxes.parquet", folder / "store")


def test_published_with_its_provenance_and_resumed_from_the_store(tmp_path, grounder):
    posts = [post("a", make_image(tmp_path / "images", "1.png", seed=1)), post("b")]
    parsed = [phrases("a", (0, 3), (1, 3), (4, 5)), phrases("b", (0, 3))]
    assert run(tmp_path, posts, parsed) == Tally("ground", 5, 5)
    found, meta = tables.read_boxes(tmp_path / "boxes.parquet")
    assert list(found) == ["a"]
    assert [one.text for one in found["a"]] == ["person", "place", "a tiny dog", "tiny dog", "Paris"]
    assert meta["phrases"] == {"config": {"kind": "all"}, "synthetic": False}
    assert (meta["ground"]["identity"], meta["ground"]["synthetic"], meta["n_cut"]) == (grounder.identity, False, 0)
    before = (tmp_path / "boxes.parquet").read_bytes()
    (tmp_path / "boxes.parquet").unlink()
    grounder.calls.clear()
    assert run(tmp_path, posts, parsed) == Tally("ground", 5, 0)
    assert (tmp_path / "boxes.parquet").read_bytes() == before
    assert grounder.calls == []
    more = [*posts, post("c", make_image(tmp_path / "images", "2.png", seed=2))]
    assert run(tmp_path, more, parsed) == Tally("ground", 7, 2)


def test_what_the_cap_cuts_is_counted(tmp_path, grounder):
    posts = [post("a", make_image(tmp_path / "images", "1.png"))]
    tally = run(tmp_path, posts, [phrases("a", (0, 3), (1, 3), (4, 5))], GroundConfig(n_phrases_max=1))
    assert tally.line("own").endswith("; 2 phrases cut")
    found, meta = tables.read_boxes(tmp_path / "boxes.parquet")
    assert (len(found["a"]), meta["n_cut"]) == (3, 2)


def test_texts_that_are_not_read_to_their_end_are_counted(tmp_path, grounder):
    words = " ".join(["a"] * 60)  # is_cut of this grounder: beyond 100 characters
    posts = [post("a", make_image(tmp_path / "images", "1.png"), words=words)]
    tally = run(tmp_path, posts, [phrases("a", (0, 60), (1, 3), (1, 60), words=words)])
    assert tally.n_too_long == 2
    assert tables.read_boxes(tmp_path / "boxes.parquet")[1]["n_too_long"] == 2


def test_a_refused_image_leaves_no_table(tmp_path, grounder):
    grounder.synthetic = True
    posts = [post("a", make_image(tmp_path / "images", "1.png", drawn=False))]
    with pytest.raises(SyntheticError, match="detector was trained on drawings"):
        run(tmp_path, posts, [])
    assert not (tmp_path / "boxes.parquet").exists()
    run(tmp_path, posts, [], GroundConfig(allow_synthetic=True))
    assert tables.read_boxes(tmp_path / "boxes.parquet")[1]["ground"]["synthetic"] is True
