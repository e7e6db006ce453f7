"""Packs by command: whole or not, out and in again, and features of one's own."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import cli
import pages
from cache.packs import Pack
from project import Project
from tests import own
from tests.cache.rows import flip


@pytest.fixture
def home(trained, tmp_path, monkeypatch):
    shutil.copytree(trained.root / "out", tmp_path / "out")
    shutil.copy(trained.root / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fmit(*arguments, code=0):
    result = CliRunner().invoke(cli.main, ["pack", *(str(one) for one in arguments)])
    assert result.exit_code == code, result.output
    return result


def test_verify_finds_a_flipped_byte(home):
    assert fmit("verify", "out/own/pack").stdout.endswith(", clean, 16 posts\n")
    flip(home / "out/own/pack/bucket-003.h5", 900)
    result = fmit("verify", "out/own/pack", code=1)
    assert "bucket-003.h5: a bucket's bytes do not match its digest" in result.stdout
    assert "1 file(s) of the pack are damaged" in result.stderr
    found = json.loads(fmit("verify", "out/own/pack", "--json", code=1).stdout)
    assert (len(found["problems"]), found["n_buckets"], found["synthetic"]) == (1, 8, True)
    assert "not a readable pack" in fmit("verify", "nowhere", code=1).stderr


def test_a_pack_goes_out_and_comes_back_and_trains_to_the_same_numbers(home, trained):
    printed = fmit("export", "out/own/pack", "--dataset", "own", "--out", "table.parquet").stdout
    n_rows = pq.read_metadata("table.parquet").num_rows
    assert printed == f"export own: {n_rows} objects of 16 posts in table.parquet\n"
    found = json.loads(fmit("import", "table.parquet", "--dataset", "own", "--out", "packs/mine", "--json").stdout)
    assert (found["n_rows"], found["n_posts"], found["n_without"]) == (n_rows, 16, 0)
    assert Pack("packs/mine").digest() == Pack("out/own/pack").digest()
    shutil.rmtree("out/own/pack")  # so that it is not read by mistake
    (home / "params.yaml").write_text(own.PARAMS.rstrip() + "\n    pack: packs/mine\n")
    project = Project.open()
    assert project.pack("own") == home / "packs/mine"
    run = project.run("own", "fmit", 0)
    list(project.train("own", "fmit", 0, device="cpu"))
    ours, theirs = (json.loads((one / "curves.json").read_text()) for one in (run, trained.run("own", "fmit", 0)))
    assert [(row["train_loss"], row["dev_f1"]) for row in ours] == [
        (row["train_loss"], row["dev_f1"]) for row in theirs
    ]
    metrics = project.evaluate(run, device="cpu")
    assert metrics == {"dev": json.loads((trained.run("own", "fmit", 0) / "scores/metrics-dev.json").read_text())}
    assert project.is_up_to_date(run, "own", "fmit", 0)
    assert pages.post_details(project, "own", "dev-00000").regions


def table(path, **changes):
    row = {"post_id": "dev-00001", "source": "phrase", "text": "a cat", "word_start": 0, "word_end": 2}
    row |= {"x0": 1, "y0": 2, "x1": 9, "y1": 9, "score": 0.5, "features": [1.0, 2.0, 3.0], **changes}
    pq.write_table(pa.Table.from_pylist([row]), path)


def test_features_of_ones_own_have_any_width_and_name_themselves(home):
    table("mine.parquet")
    result = fmit("import", "mine.parquet", "--dataset", "own", "--out", "packs/mine")
    assert result.stdout == "import own: 1 objects of 3 x float32; 15 of 16 posts have none\n"
    assert result.stderr == "train on it: fmit train --dataset own --pack packs/mine\n"
    meta = Pack("packs/mine").meta
    assert (meta.dim, meta.n_buckets, meta.provenance) == (3, 8, {"regions": {"name": "mine"}})
    fmit("import", "mine.parquet", "--dataset", "own", "--out", "packs/mine", "--name", "clip")
    assert Pack("packs/mine").meta.provenance == {"regions": {"name": "clip"}}


def test_what_does_not_fit_the_posts_is_refused_by_row(home):
    table("mine.parquet", post_id="nobody")
    result = fmit("import", "mine.parquet", "--dataset", "own", "--out", "packs/mine", code=1)
    assert "mine.parquet row 0: the dataset has no such post (found 'nobody')" in result.stderr
    assert not (home / "packs/mine").exists()
    assert "unknown dataset 'x'" in fmit("import", "mine.parquet", "--dataset", "x", "--out", "p", code=1).stderr
    assert "unknown dataset 'x'" in fmit("export", "out/own/pack", "--dataset", "x", "--out", "p", code=1).stderr


@pytest.mark.parametrize("junk", [b"", b"junk", b"PAR1junkPAR1"])
def test_junk_is_no_table_and_the_message_says_where_its_columns_stand(home, junk):
    (home / "junk.parquet").write_bytes(junk)
    said = fmit("import", "junk.parquet", "--dataset", "own", "--out", "packs/mine", code=1).stderr
    assert said.startswith("error: junk.parquet: not a readable table of features (found ")
    assert "; give a Parquet table; `fmit pack import --help` lists its columns" in said
    assert not (home / "packs").exists()


def test_a_folder_that_is_no_pack_is_not_replaced(home):
    fmit("export", "out/own/pack", "--dataset", "own", "--out", "table.parquet")
    (home / "mine").mkdir()
    (home / "mine" / "thesis.txt").write_text("years of work")
    said = fmit("import", "table.parquet", "--dataset", "own", "--out", "mine", code=1).stderr
    assert "mine: refusing to replace a folder that contains other files (found thesis.txt)" in said
    assert (home / "mine" / "thesis.txt").read_text() == "years of work"
    for _ in range(2):
        fmit("import", "table.parquet", "--dataset", "own", "--out", "packs/mine")
