import json
import shutil
from dataclasses import replace

import pages
from cache import tables
from model import train
from schema.records import Image
from tests import own


def test_summary_for_people_and_machines(fmit, trained):
    (row,) = json.loads(fmit("summary", "--json").stdout)
    assert row["run"] == "own-fmit-0"
    assert row["f1"] == pages.summary(trained)[0]["f1"]
    printed = fmit("summary").stdout
    assert f"{row['f1']:.4f}" in printed
    assert f"open {trained.run('own', 'fmit', 0) / 'report.html'}" in printed


def test_evaluate_scores_the_split_that_is_asked_for(fmit, trained, tmp_path):
    run = trained.run("own", "fmit", 0)
    scored = json.loads(fmit("evaluate", "--run", run, "--split", "dev", "--json").stdout)
    assert list(scored) == ["dev"]
    assert scored["dev"]["synthetic"]
    assert json.loads(fmit("evaluate", "--run", run, "--split", "valid", "--json").stdout) == scored
    refused = fmit("evaluate", "--run", run, "--split", "nothing")
    assert refused.exit_code == 1
    assert refused.stderr == "error: unknown split 'nothing'; use train, dev, test\n"


def test_a_split_that_is_asked_for_and_absent_is_an_error_beside_others(fmit, trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained.run("own", "fmit", 0), run)
    table = tables.read_posts(trained.out("own", "posts.parquet"))
    folder = tmp_path / "project"
    kept = [post for post in table.posts if post.split != "test"]
    tables.write_posts(folder / "out/own/posts.parquet", kept, table.labels, table.meta)
    (folder / "params.yaml").write_text(own.PARAMS.replace("splits: [dev]", "splits: [dev, test]"))
    call = ("evaluate", "--run", run, "--dataset", "own", "--pack", trained.pack("own"))
    params = ("--params", folder / "params.yaml", "--json")
    refused = fmit(*call, *params, "--split", "dev", "--split", "test")
    assert refused.exit_code == 1
    assert "no labeled posts in test" in refused.stderr
    assert list(json.loads(fmit(*call, *params).stdout)) == ["dev"]  # evaluate.splits: where the dataset has them


def test_a_split_scored_alone_leaves_the_others(fmit, trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained.run("own", "fmit", 0), run)
    before = (run / "scores" / "predictions-dev.jsonl").read_bytes()
    assert fmit("evaluate", "--run", run, "--split", "test").exit_code == 0
    assert sorted(json.loads((run / "metrics.json").read_text())) == ["dev", "test"]
    assert (run / "scores" / "predictions-dev.jsonl").read_bytes() == before


def test_a_device_that_is_not_here_is_an_error_of_ours(fmit, trained):
    result = fmit("evaluate", "--run", trained.run("own", "fmit", 0), "--device", "foo")
    assert (result.exit_code, result.stderr.count("the device 'foo' is not available")) == (1, 1)


def test_predict_writes_a_line_a_post(fmit, trained, tmp_path):
    run, posts = trained.run("own", "fmit", 0), trained.data("own") / "test.jsonl"
    out = tmp_path / "found.jsonl"
    result = fmit("predict", posts, "--run", run, "--images", trained.images("own"), "--out", out)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"test-{k:05d}" for k in range(4)]
    assert fmit("predict", posts, "--run", run, "--images", trained.images("own")).stdout == out.read_text()


def test_predict_reads_conll_without_labels(fmit, trained, tmp_path):
    posts = tmp_path / "posts.txt"
    posts.write_text("IMGID:1\nAnn\nin\nRome\n\nIMGID:2\nHi\n")
    printed = fmit("predict", posts, "--run", trained.run("own", "fmit", 0)).stdout
    assert [json.loads(line)["words"] for line in printed.splitlines()] == [["Ann", "in", "Rome"], ["Hi"]]


def test_a_bad_line_leaves_no_half_file(fmit, trained, tmp_path):
    posts, out = tmp_path / "posts.jsonl", tmp_path / "found.jsonl"
    posts.write_text('{"id": "1", "text": "Ann"}\n{"id": "2"}\n')
    call = ("predict", posts, "--run", trained.run("own", "fmit", 0), "--out", out)
    result = fmit(*call, "--strict")
    assert result.exit_code == 1
    assert f"{posts}:2: a post has either tokens or text" in result.stderr
    assert list(tmp_path.iterdir()) == [posts]
    result = fmit(*call)
    assert result.exit_code == 0
    assert f"skipped: {posts}:2: a post has either tokens or text" in result.stderr
    assert result.stderr.endswith("1 post(s) could not be read and were skipped\n")
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["1"]


def test_predict_reads_texts(fmit, trained, tmp_path):
    run, posts = trained.run("own", "fmit", 0), tmp_path / "posts.txt"
    posts.write_text("Ann in Rome\n\nHi\n", encoding="utf-8")
    result = fmit("predict", posts, "--run", run, "--format", "text")
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["Ann in Rome", "Hi"]
    assert f"skipped: {posts}:2: this text has no words" in result.stderr
    (line,) = fmit("predict", "--text", "Ann in Rome", "--run", run).stdout.splitlines()
    assert json.loads(line)["words"] == ["Ann", "in", "Rome"]
    assert fmit("predict", "--run", run).exit_code == 2
    assert fmit("predict", posts, "--text", "Ann", "--run", run).exit_code == 2


def test_labels_of_another_set_never_stop_a_prediction(fmit, trained, tmp_path):
    posts = tmp_path / "posts.txt"
    posts.write_text("Ann\tB-person\nin\tO\n\nRome\tS-LOC\n\nHi\tO\n")
    result = fmit("predict", posts, "--run", trained.run("own", "fmit", 0))
    assert [json.loads(line)["gold"] for line in result.stdout.splitlines()] == [None, None, []]
    assert (
        "2 post(s) have labels unknown to the run; their gold labels are ignored: B-person (1), S-LOC (1)"
        in result.stderr
    )


def test_ids_come_out_as_given(fmit, trained, tmp_path):
    posts = tmp_path / "posts.jsonl"
    posts.write_text("".join(json.dumps({"id": given, "text": "Ann"}) + "\n" for given in ("55/2", "55", "55")))
    lines = fmit("predict", posts, "--run", trained.run("own", "fmit", 0)).stdout.splitlines()
    assert [(line["id"], line["post_id"]) for line in map(json.loads, lines)] == [
        ("55/2", "55_2"),
        ("55", "55"),
        ("55", "55~2"),
    ]


def test_training_without_a_dataset_of_that_name(fmit):
    result = fmit("train", "--dataset", "other")
    assert result.exit_code == 1
    assert "unknown dataset 'other'" in result.stderr


def test_training_into_a_place_that_cannot_be_written_fails_before_it_begins(fmit, tmp_path):
    (tmp_path / "file").write_text("")
    result = fmit("train", "--dataset", "own", "--out", tmp_path / "file" / "run")
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {tmp_path}/file/run: cannot be written (found {tmp_path}/file is not a folder);"
        " choose another folder\n"
    )


def test_warnings_about_the_data_come_before_training_with_quiet_too(fmit, tmp_path, monkeypatch):
    def read(path, read_posts=train.read_posts):
        table = read_posts(path)
        lost = replace(table.posts[0], images=(Image("lost.png", state="missing"),))
        warning = {"warning": "no known variant of twitter2015 has these files"}
        return replace(table, posts=[lost, *table.posts[1:]], meta={**table.meta, **warning})

    monkeypatch.setattr(train, "read_posts", read)
    call = ("train", "--dataset", "own", "--approach", "fmit", "--out", tmp_path / "run", "--json")
    result = fmit(*call)
    first, second, epoch = result.stderr.splitlines()
    assert first == "warning: no known variant of twitter2015 has these files"
    assert second.startswith(
        "warning: train: 1 of 8 image(s) cannot be used (1 missing), so their posts have the empty"
    )
    assert epoch.startswith("epoch 1: loss ")
    assert len(fmit(*call, "--quiet").stderr.splitlines()) == 2
    found = json.loads(result.stdout)
    assert found["run"] == str(tmp_path / "run")
    assert found["dev"] == json.loads((tmp_path / "run/model/config.json").read_text())["dev"]


def test_predict_counts_the_images_that_were_not_seen(fmit, trained, tmp_path):
    run, posts = trained.run("own", "fmit", 0), tmp_path / "posts.jsonl"
    (tmp_path / "images").mkdir()
    (tmp_path / "images/b.png").write_bytes(b"no image")
    rows = [{"id": f"{k}", "text": "hi", "images": [name]} for k, name in enumerate(("a.png", "b.png", "../c.png"))]
    posts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = fmit("predict", posts, "--run", run, "--images", tmp_path / "images")
    assert seen.stderr.endswith(
        "3 of 3 image(s) cannot be used: 1 missing, 1 broken, 1 refused; the model reads an empty image instead\n"
    )
    unseen = fmit("predict", posts, "--run", run)
    assert unseen.stderr.endswith("the posts name 3 image(s), but none was opened: give their folder with --images\n")
    assert fmit("-q", "predict", posts, "--run", run).stderr == ""


def test_a_summary_without_a_scored_run_says_what_to_do(fmit, tmp_path):
    (tmp_path / "params.yaml").write_text(own.PARAMS)
    printed = fmit("summary", "--params", tmp_path / "params.yaml").stdout
    assert printed.startswith("no scored run yet; params.yaml names own-fmit-0\n")
    assert "`dvc repro` trains and scores all of them" in printed
    assert fmit("summary", "--json", "--params", tmp_path / "params.yaml").stdout == "[]\n"
