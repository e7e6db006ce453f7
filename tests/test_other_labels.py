"""Six types, raw text, aliases of one's own: the whole way by params alone."""

import json

import pytest

import fmit
import pages
from cache import tables
from cache.packs import Pack
from pipeline.engine import silent
from project import Project
from synthetic.posts import draft
from synthetic.scenes import compose, dataset_rng, png_bytes

TYPES = {"person": "person", "place": "place", "firm": "company", "song": "song", "team": "team", "pet": "animal"}
PARAMS = """
datasets: [six]
train_on: [six]
data:
  six:
    source:
      preset: jsonl
      labels: {person: person, place: place, firm: company, song: song, team: team, pet: animal}
      aliases: {city: place}
    phrases: {preset: embedded}
    ground: {preset: synthetic}
    regions: {preset: synthetic, n_buckets: 4}
    train: {preset: tiny, epochs: 1}
"""


def row(k: int, split: str) -> dict:
    """Raw text with an entity by characters; every fifth post calls a place by its alias."""
    one = draft(0, split, k)
    name = ["city", *TYPES][k % 7]
    text = f"We saw {' '.join(one.words)} near Oslo"
    return {
        "id": one.id,
        "text": text,
        "entities": [{"start": len(text) - 4, "end": len(text), "type": name}],
        "images": [f"{one.id}.png"],
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("six")
    (root / "params.yaml").write_text(PARAMS)
    (root / "data/six/images").mkdir(parents=True)
    for split in ("train", "dev", "test"):
        rows = [row(k, split) for k in range(7)]
        (root / f"data/six/{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        for k in range(7):
            one = draft(0, split, k)
            (root / f"data/six/images/{one.id}.png").write_bytes(
                png_bytes(compose(dataset_rng(0, one.number), one.objects))
            )
    project = Project.open(root / "params.yaml")
    for stage in (project.ingest, project.phrases, project.ground, project.regions):
        stage("six", silent)
    list(project.train("six", "fmit", 0, device="cpu"))
    return project


def test_types_and_general_words_are_the_datasets_own(project):
    table = tables.read_posts(project.out("six", "posts.parquet"))
    assert table.labels.types == tuple(TYPES)
    assert [post.tags[-1] for post in table.posts[:2]] == ["B-place", "B-person"]
    pack = Pack(project.out("six", "pack"))
    assert pack.meta.general_words == tuple(TYPES.values())
    asked = [region.text for region in pack.read(table.posts[0].id).regions if region.source == "general"]
    assert asked == list(TYPES.values())


def test_scores_and_predictions_speak_of_the_six(project):
    run = project.run("six", "fmit", 0)
    assert list(project.evaluate(run, ("dev",), device="cpu")["dev"]["strict"]["types"]) == list(TYPES)
    page = pages.report(project, run).read_text()
    assert "animal" in page
    (found,) = fmit.load(run, device="cpu").predict(["We saw Ann near Oslo"])
    assert {entity.entity.type for entity in found.entities} <= set(TYPES)


def test_a_changed_general_word_grounds_and_crops_that_word_alone(project):
    before = len(tables.read_boxes(project.out("six", "boxes.parquet"))[0])
    path = project.root / "params.yaml"
    path.write_text(path.read_text().replace("pet: animal", "pet: dog"))
    changed = Project.open(path)
    changed.ingest("six", silent)
    assert changed.phrases("six", silent).n_computed == 0
    assert changed.ground("six", silent).n_computed == before
    assert changed.regions("six", silent).n_computed <= before
