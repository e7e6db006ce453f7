"""Which posts a part of a dataset names, and how its parts are found; the rest is tested through `fmit cache`."""

import pytest

from pipeline.maintenance import choose
from project import Project
from schema.errors import ConfigError, DataError
from schema.records import Post
from tests import own

POSTS = [Post(f"{split}{k}", split, ("a",), "a", ((0, 1),)) for split in ("train", "dev", "test") for k in range(3)]


@pytest.mark.parametrize(
    ("parts", "ids"),
    [
        ([], [post.id for post in POSTS]),
        (["dev"], ["dev0", "dev1", "dev2"]),
        (["valid", "1"], ["dev0"]),
        (["2"], ["train0", "train1", "dev0", "dev1", "test0", "test1"]),
        (["1", "test"], ["test0"]),
        (["100"], [post.id for post in POSTS]),
    ],
)
def test_parts_of_a_dataset(parts, ids):
    assert [post.id for post in choose(POSTS, parts, "here")] == ids


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["devel"], r"here: unknown part of a dataset \(found 'devel'\); use train, dev, test, predict, or a number"),
        ([""], "unknown part"),
        (["0"], "here: no post in this part"),
        (["predict"], "no post in this part"),
    ],
)
def test_no_parts_of_a_dataset(parts, message):
    with pytest.raises(ConfigError, match=message):
        choose(POSTS, parts, "here")


def test_the_parts_are_those_that_made_the_rows(trained):
    from cache.packs import Pack

    pipeline = trained.prepared("own").pipeline
    made_by = Pack(trained.out("own", "pack")).meta.provenance
    for name, part in (("phrases", pipeline.parser), ("ground", pipeline.grounder), ("regions", pipeline.net)):
        assert dict(part.identity) == made_by[name]["identity"]
    assert pipeline.ground.allow_synthetic


def test_a_dataset_without_posts_says_what_to_run(tmp_path):
    (tmp_path / "params.yaml").write_text(own.PARAMS)
    project = Project.open(tmp_path / "params.yaml")
    assert project.all_prepared() == {}
    with pytest.raises(DataError, match=r"posts\.parquet: no such table; `fmit ingest` writes it"):
        project.prepared("own")
    with pytest.raises(ConfigError, match="unknown dataset 'x'"):
        project.prepared("x")
