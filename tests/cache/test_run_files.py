"""JSON of a run's folder: what is missing, cut short or of another kind is said, with what to do."""

import json
import os

import pytest

from cache.run_files import read_json, read_object, refuse_strange, refuse_unwritable, run_config
from schema.errors import RunError

GOOD = {"inputs": {"posts": "1"}, "config": {"width": 8}, "seed": 0, "more": 1}


def write(folder, text: str):
    (folder / "model").mkdir(parents=True, exist_ok=True)
    (folder / "model" / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    return folder


def test_a_runs_configuration(tmp_path):
    assert run_config(write(tmp_path, json.dumps(GOOD))) == GOOD
    with pytest.raises(RunError, match=r"nowhere: no trained run; train it, or pull it \(dvc pull\)"):
        run_config(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not readable as JSON"),
        ("{", "not readable as JSON"),
        ("\udcff", "not readable as JSON"),
        ("[]", r"not a JSON object \(found list\)"),
        ("null", r"not a JSON object \(found NoneType\)"),
        ("{}", r"not a run's config.json \(found no inputs, config, seed\); train again"),
        (json.dumps({**GOOD, "inputs": 3}), r"not a run's config.json \(found inputs or config is not an object\)"),
    ],
)
def test_what_is_no_configuration_is_said(tmp_path, text, message):
    with pytest.raises(RunError, match=rf"model/config\.json: {message}"):
        run_config(write(tmp_path, text))


def test_json_of_any_kind(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(RunError, match=r"a\.json: a file of the run is missing; do this"):
        read_json(path, "do this")
    path.write_text("[1]")
    assert read_json(path, "") == [1]
    with pytest.raises(RunError, match=r"not a JSON object \(found list\); do that"):
        read_object(path, "do that")
    with pytest.raises(RunError, match="not readable as JSON"):
        read_json(tmp_path, "")  # a folder


def test_places_that_cannot_be_written_are_refused_and_nothing_is_made(tmp_path):
    refuse_unwritable(tmp_path / "a" / "b")
    refuse_unwritable(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(
            RunError, match=r"cannot be written \(found .*/file is not a folder\); choose another folder"
        ):
            refuse_unwritable(place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(RunError, match="is read-only"):
        refuse_unwritable(tmp_path / "run")


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    refuse_strange(tmp_path / "none", "a")
    for name in ("a.csv", ".DS_Store"):
        (tmp_path / name).touch()
    refuse_strange(tmp_path, r".*\.csv")
    (tmp_path / "thesis.txt").touch()
    told = rf"^{tmp_path}: refusing to replace a folder .*found thesis.txt\); choose a new folder, or move them"
    with pytest.raises(RunError, match=told):
        refuse_strange(tmp_path, r".*\.csv")
