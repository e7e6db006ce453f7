"""Gold phrases and boxes in place of the models', on a few synthetic posts."""

import dataclasses

import pytest
import yaml
from click.testing import CliRunner

from bench import phrase_boxes
from bench.phrase_boxes import best_overlap, main, pair_project, use_gold_boxes, use_phrases
from cache.tables import read_boxes, read_phrases, read_posts
from pipeline.engine import silent
from project import Project
from schema.records import Box
from synthetic.draw import read_gold
from tests.commands.test_tables import params, write_synthetic
from tests.model.tiny import write_encoder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    write_encoder(root / "encoder")
    values = params(root)
    (root / "params.yaml").write_text(yaml.safe_dump(values | {"data": {"own": values["data"]["own"]}}))
    write_synthetic(root / "data" / "own")
    project = Project.open(root / "params.yaml")
    project.ingest("own", silent)
    project.phrases("own", silent)
    return project


def test_gold_phrases_have_the_boxes_of_their_objects(home, tmp_path, monkeypatch):
    monkeypatch.setenv("FMIT_STORE", str(home.store))
    gold = read_gold(home.data("own"))
    phrases = {name: [one.phrase for one in (*post.names, *post.others) if one.phrase] for name, post in gold.items()}
    project = pair_project(home, "own", tmp_path, "gold")
    use_phrases(project, "own", {name: sorted(set(spans)) for name, spans in phrases.items()})
    project.ground("own", silent)
    use_gold_boxes(project, "own", gold)
    for found in read_phrases(project.out("own", "phrases.parquet"))[0]:
        assert {one.span for one in found.phrases} == set(phrases[found.post_id])
    posts = {post.id: post for post in read_posts(project.out("own", "posts.parquet")).posts}
    words = home.source("own").label_set().words
    boxes, meta = read_boxes(project.out("own", "boxes.parquet"))
    assert meta["ground"]["config"] == {"grounder": "gold"}
    assert any(region.span for regions in boxes.values() for region in regions)
    for post_id, regions in boxes.items():
        post = gold[post_id]
        for region in regions:
            if region.span:
                assert region.box in [one.box for one in (*post.names, *post.others) if one.phrase == region.span]
            else:
                first = [one.box for one in post.names if words[one.type] == region.text][:1]
                image = posts[post_id].images[0]
                assert region.box == (first[0] if first else Box(0, 0, image.width, image.height))


def test_a_phrase_of_the_model_takes_the_object_with_most_words_in_common(home):
    gold = next(post for post in read_gold(home.data("own")).values() if len(post.names) > 1)
    one = gold.names[0]
    wider = dataclasses.replace(one.phrase, end=one.phrase.end + 1)
    assert best_overlap(wider, gold.names) == one
    assert best_overlap(dataclasses.replace(one.phrase, start=90, end=99), gold.names) is None


def test_the_table_has_a_row_for_each_pair(home, tmp_path, monkeypatch):
    monkeypatch.chdir(home.root)
    monkeypatch.setenv("FMIT_STORE", "")
    monkeypatch.setattr(phrase_boxes, "PHRASES", ("gold", "no"))
    monkeypatch.setattr(phrase_boxes, "BOXES", ("gold", "random"))
    arguments = ["--dataset", "own", "--work", str(tmp_path), "--device", "cpu"]
    first = CliRunner().invoke(main, arguments, catch_exceptions=False).stdout.splitlines()
    assert first[0].split() == ["phrases", "boxes", "MNER", "EEG", "GMNER"]
    pairs = [("gold", "gold"), ("gold", "random"), ("no", "gold"), ("no", "random")]
    assert [tuple(line.split()[:2]) for line in first[1:]] == pairs
    for line in first[1:]:
        entities, _, both = map(float, line.split()[2:])
        assert both <= entities
