"""`fmit cache forget` removes a post's rows, here and at remotes, and keeps those that other posts need."""

import shutil

import numpy as np
import pytest

from cache import keys, maintenance
from cache.store import Store
from tests import own
from tests.commands.stores import STORE, copy, fmit, json_of, lines, n_rows


@pytest.fixture
def project(trained, tmp_path, monkeypatch):
    """A copy of the project: these commands change it."""
    return copy(trained, tmp_path, monkeypatch)


def test_forget_leaves_nothing_of_a_post_and_says_what_to_do(project):
    before = n_rows()
    result = fmit("cache", "forget", "test-00001", "--dataset", "own")
    after = n_rows()
    assert before["phrases"] - after["phrases"] == 1
    assert after["regions"] < before["regions"]
    gone = sum(before.values()) - sum(after.values())
    assert result.stdout.startswith(f"forget test-00001: {gone} rows removed, ")
    for part in (
        "a final check of every key in every shard found none",
        "remove the post from data/own",
        "dvc repro",
        "rows that `fmit cache push` sent are still on its remotes: --remote URL removes them there too",
    ):
        assert part in result.stdout
    assert json_of("cache", "forget", "test-00001", "--dataset", "own")["n_rows"] == 0
    posts = project / "data/own/test.jsonl"
    posts.write_text("".join(line for line in posts.open() if '"test-00001"' not in line))
    fmit("ingest", "own")
    assert lines("phrases", "ground", "regions") == ["0 computed"] * 3


def test_a_remote_forgets_what_the_store_names(project):
    fmit("cache", "push", "team")
    before, away = n_rows(), n_rows("team")
    found = fmit("cache", "forget", "test-00001", "--dataset", "own", "--remote", "team").stdout
    gone = sum(before.values()) - sum(n_rows().values())
    assert f"\nforget test-00001 at team: {gone} rows removed\n" in found
    assert n_rows("team") == n_rows() != away
    assert "still on its remotes" not in found
    fmit("cache", "pull", "team")
    assert n_rows() != before, "the next pull does not bring them back"
    result = fmit("cache", "forget", "dev-00000", "--dataset", "own", "--remote", "taem", code=1)
    assert "taem: this address has no store (found nothing); check the address" in result.stderr
    assert n_rows() == n_rows("team"), "nothing was removed here before it was there"


def test_rows_that_another_post_needs_stay_and_are_counted(project):
    (project / "params.yaml").write_text(own.PARAMS + own.PARAMS.partition("data:\n")[2].replace("own", "twin"))
    shutil.copytree(project / "data/own", project / "data/twin")
    fmit("ingest", "twin")
    before = n_rows()
    found = json_of("cache", "forget", "test-00001", "--dataset", "own")
    assert (found["n_rows"], found["n_left"], found["kept_for"]) == (0, 0, ["test-00001 (twin)"])
    assert n_rows() == before
    printed = fmit("cache", "forget", "test-00001", "--dataset", "own").stdout
    assert f"kept {found['n_kept']} rows, shared with test-00001 (twin)" in printed
    both = json_of("cache", "forget", "test-00001", "--dataset", "own", "--dataset", "twin")
    assert (both["n_rows"], both["n_kept"], both["kept_for"]) == (found["n_kept"], 0, [])
    assert both["n_rows"] == sum(before.values()) - sum(n_rows().values())


def test_rows_of_other_parts_are_named_as_such(project):
    with Store(project / STORE / "regions", producer={"name": "resnet-of-old"}) as store:
        store.put({keys.key("old"): np.zeros(4, np.float32)})
    printed = fmit("cache", "forget", "dev-00000", "--dataset", "own").stdout
    assert "rows by resnet-of-old were computed with other parameters, so their posts are unknown" in printed


def test_a_post_that_is_not_there(project):
    result = fmit("cache", "forget", "nobody", "--dataset", "own", code=1)
    assert "dataset own: no post 'nobody'" in result.stderr


def test_rows_that_are_there_again_are_an_error(project, monkeypatch):
    monkeypatch.setattr("cache.maintenance.forget", lambda root, unwanted: maintenance.ForgetReport(5, 2, 1))
    result = fmit("cache", "forget", "dev-00000", "--dataset", "own", code=1)
    assert "1 of the post's rows are in the store again" in result.stderr
    assert "none of them" not in result.stdout
