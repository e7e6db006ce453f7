import json

import pages


def test_summary_for_people_and_machines(fmit, trained):
    (row,) = json.loads(fmit("summary", "--json").stdout)
    assert row["run"] == "own-fmit-0"
    assert row["f1"] == pages.summary(trained)[0]["f1"]
    printed = fmit("summary").stdout
    assert f"{row['f1']:.4f}" in printed
    assert f"open {pages.reports(trained)[0]}" in printed


def test_evaluate_scores_the_split_that_is_asked_for(fmit, trained, tmp_path):
    run = trained.run("own", "fmit", 0)
    scored = json.loads(fmit("evaluate", "--run", run, "--split", "dev", "--json").stdout)
    assert list(scored) == ["dev"]
    assert scored["dev"]["toy"]
    assert json.loads(fmit("evaluate", "--run", run, "--split", "valid", "--json").stdout) == scored
    refused = fmit("evaluate", "--run", run, "--split", "nothing")
    assert refused.exit_code == 1
    assert "no labelled posts in nothing" in refused.stderr


def test_a_split_scored_alone_leaves_the_others(fmit, trained, tmp_path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(trained.run("own", "fmit", 0), run)
    before = (run / "scores" / "predictions-dev.jsonl").read_bytes()
    assert fmit("evaluate", "--run", run, "--split", "test").exit_code == 0
    assert sorted(json.loads((run / "metrics.json").read_text())) == ["dev", "test"]
    assert (run / "scores" / "predictions-dev.jsonl").read_bytes() == before


def test_a_device_that_is_not_here_is_an_error_of_ours(fmit, trained):
    result = fmit("evaluate", "--run", trained.run("own", "fmit", 0), "--device", "foo")
    assert (result.exit_code, result.stderr.count("no device 'foo' here")) == (1, 1)


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
    result = fmit("predict", posts, "--run", trained.run("own", "fmit", 0), "--out", out)
    assert result.exit_code == 1
    assert f"{posts}:2: a post has either tokens or text" in result.stderr
    assert list(tmp_path.iterdir()) == [posts]


def test_training_without_a_dataset_of_that_name(fmit):
    result = fmit("train", "--dataset", "other")
    assert result.exit_code == 1
    assert "no dataset 'other'" in result.stderr
