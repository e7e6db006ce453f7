import json
import shutil


def test_a_run_with_itself(fmit, trained, tmp_path):
    run = trained.run("own", "fmit", 0)
    printed = fmit("compare", run, run).stdout
    assert "0 of 4 posts differ" in printed
    assert "difference +0.0000, 95% interval +0.0000 to +0.0000, p = 1.0000, synthetic parts" in printed


def test_runs_that_differ_in_json_and_as_a_page(fmit, trained, tmp_path):
    run, other = trained.run("own", "fmit", 0), tmp_path / "other"
    shutil.copytree(run, other)
    path = other / "scores" / "predictions-dev.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[2]["entities"] = [{**lines[2]["gold"][0], "confidence": 0.5}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = tmp_path / "page.html"
    result = fmit("compare", run, other, "--split", "dev", "--resamples", 50, "--json", "--html", page)
    found = json.loads(result.stdout)
    assert [one["id"] for one in found["differences"]] == [lines[2]["id"]]
    assert found["n_resamples"] == 50
    assert lines[2]["id"] in page.read_text()
    printed = fmit("compare", run, other, "--html", page).stdout
    assert "1 of 4 posts differ" in printed
    assert lines[2]["id"] in printed


def test_a_folder_that_is_no_run(fmit, trained, tmp_path):
    result = fmit("compare", trained.run("own", "fmit", 0), tmp_path)
    assert result.exit_code == 1
    assert "a file of the run is missing" in result.stderr
