"""The commands of the store, in a project whose stages and training have run."""

import os
import shutil
import time

import numpy as np
import pytest

from cache import keys, maintenance
from cache.maintenance import VerifyReport
from cache.store import Store
from commands.console import format_bytes
from commands.features import parse_bytes
from tests import own
from tests.cache.rows import flip, stored_keys
from tests.commands.stores import STORE, copy, fmit, json_of, lines, n_rows, shards


@pytest.fixture
def project(trained, tmp_path, monkeypatch):
    """A copy of the project: these commands change it."""
    return copy(trained, tmp_path, monkeypatch)


def test_stats_count_rows_by_stage_and_producer(project):
    directories = json_of("cache", "stats")["directories"]
    assert [one["directory"].split("/")[0] for one in directories] == ["boxes", "phrases", "regions"]
    assert n_rows()["phrases"] == 16
    printed = fmit("cache", "stats").stdout
    assert "efficientnet-lite2" in printed
    assert "toy-onestage" in printed
    assert "Directory 'nowhere' does not exist" in fmit("cache", "stats", "--store", "nowhere", code=2).stderr


def test_the_environment_names_the_store_unless_an_option_does(project, monkeypatch):
    monkeypatch.setenv("FMIT_STORE", str(project / "other"))
    assert json_of("cache", "stats")["directories"] == []
    assert json_of("cache", "stats", "--store", project / STORE)["directories"]


def test_verify_lists_damaged_shards(project):
    assert fmit("cache", "verify").stdout.endswith(", clean\n")
    (shard, *_) = shards(project)
    flip(shard, 5000)
    result = fmit("cache", "verify", code=1)
    assert f"{shard}: " in result.stdout
    assert "1 problem(s)" in result.stdout
    assert "error: " in result.stderr
    assert "1 damaged or unknown file(s)" in result.stderr
    assert json_of("cache", "verify")["problems"] == []
    assert " 0 computed" not in lines("regions")[0]


def test_recomputed_rows_agree_until_a_row_was_computed_differently(project):
    found = json_of("cache", "verify", "--recompute", 6)
    assert found["recomputed"] == {"own": {"n_rows": 6, "moved": []}}
    assert fmit("cache", "verify", "--recompute", 3).stdout.endswith("recompute own: 3 rows, 0 differ\n")
    with Store(project / STORE / "regions") as store:
        names = stored_keys(project / STORE / "regions")
        values = dict(zip(names, store.get(names), strict=True))
    maintenance.forget(project / STORE / "regions", names)
    with Store(project / STORE / "regions", producer={"name": "wrong"}) as store:
        store.put({key: value * np.float32(1.01) for key, value in values.items()})
    result = fmit("cache", "verify", "--recompute", 6, "--dataset", "own", code=1)
    assert "recompute own: 6 rows, 2 differ" in result.stdout
    assert "regions, post " in result.stdout
    assert "recomputed rows differ from stored ones (found own)" in result.stderr


def test_gc_lists_files_first_and_spares_recent_ones(project):
    (old, *others) = shards(project)
    os.utime(old, (time.time() - 40 * 86400,) * 2)
    result = fmit("cache", "gc", "--max-age-days", 30, "--dry-run")
    assert result.stdout.startswith(f"{old}\ngc: 1 files (")
    assert "would be removed" in result.stdout
    assert old.exists()
    found = json_of("cache", "gc", "--max-bytes", "1K")
    assert (found["paths"], found["dry_run"]) == ([str(old)], False)
    assert found["n_spared"] > 0
    assert shards(project) == others
    for days in ("nan", "inf"):
        assert f"{days} is not a finite number" in fmit("cache", "gc", "--max-age-days", days, code=2).stderr
    assert "gc needs a limit" in fmit("cache", "gc", code=1).stderr


@pytest.mark.parametrize(
    ("text", "number"), [("12", 12), ("500M", 500_000_000), ("2.5g", 2_500_000_000), ("1KB", 1000)]
)
def test_bytes(text, number):
    assert parse_bytes(None, None, text) == number


def test_wrong_values_are_wrong_calls(project):
    assert "not a size in bytes" in fmit("cache", "gc", "--max-bytes", "many", code=2).stderr
    assert (
        "not a condition such as producer=efficientnet-lite2"
        in fmit("cache", "drop", "--where", "synthetic", code=2).stderr
    )


def test_compact_joins_and_keeps_every_row(project):
    with Store(project / STORE / "regions", producer={"name": "more"}) as store:
        for index in range(3):
            store.put({keys.key("more", index=index): np.zeros(4, np.float32)})
            store.flush()
    before, rows = len(shards(project)), n_rows()
    found = json_of("cache", "compact")
    assert found["n_before"] - found["n_after"] >= 2
    assert len(shards(project)) <= before - 2
    assert n_rows() == rows
    assert fmit("cache", "compact").stdout.endswith(" 0 repeated rows removed\n")


def test_drop_removes_the_rows_of_a_producer(project):
    before = n_rows()
    assert "would be removed" in fmit("cache", "drop", "--where", "producer=efficientnet-lite2", "--dry-run").stdout
    assert n_rows() == before
    assert json_of("cache", "drop", "--where", "producer=efficientnet-lite2", "--where", "version=none")["paths"] == []
    assert "removed" in fmit("cache", "drop", "--where", "producer=efficientnet-lite2").stdout
    assert n_rows() == {**before, "regions": 0}
    assert len(json_of("cache", "drop", "--where", "producer=embedded")["paths"]) > 0
    assert n_rows() == {**before, "regions": 0, "phrases": 0}


def test_a_colleague_who_pulls_computes_nothing(project):
    found = json_of("cache", "push", "team")
    assert found["n_shards"] == len(shards(project, "")) > 0
    assert json_of("cache", "push", "team")["n_shards"] == 0
    shutil.rmtree(project / STORE)
    for name in ("phrases.parquet", "boxes.parquet"):  # a colleague with posts.parquet and no other out
        (project / "out/own" / name).unlink()
    result = fmit("cache", "pull", "team", "--for", "own")
    assert "phrases own: 16 rows needed, 16 here" in result.stdout
    assert lines("phrases", "ground", "regions") == ["0 computed"] * 3
    assert fmit("cache", "pull", "team").stdout.startswith("pull team: 0 shards")


def test_pulling_for_posts_transfers_only_shards_that_they_need(project):
    shutil.rmtree(project / STORE)
    for split in ("train", "dev", "test"):  # a store whose shards part the posts by split
        source = f"{{preset: jsonl, files: {{{split}: {split}.jsonl}}}}"
        (project / "params.yaml").write_text(own.PARAMS.replace("{preset: jsonl}", source))
        for stage in ("ingest", "phrases", "ground", "regions"):
            fmit(stage, "own")
    (project / "params.yaml").write_text(own.PARAMS)
    fmit("ingest", "own")
    fmit("cache", "push", "team")
    shutil.rmtree(project / STORE)
    found = json_of("cache", "pull", "team", "--for", "own:dev:2")
    assert [one["stage"] for one in found["wanted"]] == ["phrases", "ground", "regions"]
    assert found["wanted"][0] == {"stage": "phrases", "n_rows": 2, "n_here": 2}
    assert all(one["n_here"] == one["n_rows"] for one in found["wanted"])
    assert found["n_shards"] == 3 < len(shards(project, "", "team"))
    assert found["n_present"] == 0, "what one step fetched was not there already for the next"
    found = json_of("cache", "pull", "team", "--for", "own:1")
    assert found["wanted"][0]["n_rows"] == 3  # the first of each split
    assert found["n_shards"] == 6
    assert "unknown part of a dataset (found 'x')" in fmit("cache", "pull", "team", "--for", "own:x", code=1).stderr
    assert "no post in this part" in fmit("cache", "pull", "team", "--for", "own:predict", code=1).stderr
    assert "unknown dataset ''" in fmit("cache", "pull", "team", "--for", "", code=1).stderr, (
        "a variable that is not set"
    )


def test_an_address_without_a_store_is_an_error(project):
    for whose in ((), ("--for", "own")):
        result = fmit("cache", "pull", "taem", *whose, code=1)
        assert "error: taem: this address has no store (found nothing); check the address" in result.stderr
    assert not (project / "taem").exists()
    assert "Directory 'stroe' does not exist" in fmit("cache", "push", "team", "--store", "stroe", code=2).stderr
    fmit("cache", "push", "team")
    fmit("cache", "pull", "team", "--store", "new")
    assert n_rows("new") == n_rows()


def test_damaged_shards_are_not_transferred(project, monkeypatch):
    monkeypatch.setattr("cache.remotes.PAUSE_S", 0.0)
    fmit("cache", "push", "team")
    shutil.rmtree(project / STORE)
    flip(shards(project, store="team")[0], 700)
    result = fmit("cache", "pull", "team", code=1)
    assert "1 damaged shard(s) rejected" in result.stderr
    assert maintenance.verify(project / STORE).clean
    flip(shards(project, ".parquet")[0], 40)
    for path in shards(project, ".parquet", "team"):
        path.unlink()
    assert "quarantined, not sent" in fmit("cache", "push", "team", code=1).stderr


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (2_540_000, "2.5 MB"), (7 * 10**12, "7.0 TB")]
)
def test_sizes_have_a_unit(n_bytes, text):
    assert format_bytes(n_bytes) == text


def test_shards_of_a_later_version_are_reported(project, monkeypatch):
    monkeypatch.setattr(maintenance, "verify", lambda root: VerifyReport(3, 10, 1, ()))
    printed = fmit("cache", "verify").stdout
    assert printed.startswith("verify: 3 shards, 10 B, clean\n1 of them were written by a newer version of fmit")
