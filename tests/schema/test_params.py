from pathlib import Path

import pytest

from schema.errors import ConfigError
from schema.params import read_params

GOOD = """
datasets: [a]
evaluate: {splits: [dev, test]}
draw: {a: {preset: tiny}}
data:
  a: {source: {}, phrases: {}, ground: {}, regions: {}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text)
    return path


def test_sections_of_a_dataset(tmp_path):
    params = read_params(write(tmp_path, GOOD))
    assert params.datasets == ("a",)
    assert params.evaluate.splits == ("dev", "test")
    assert params.dataset("a").train == {}
    assert params.drawing("a") == {"preset": "tiny"}
    assert params.dataset("a").pack == ""
    params = read_params(write(tmp_path, GOOD.replace("regions: {}", "regions: {}, pack: packs/mine")))
    assert params.dataset("a").pack == "packs/mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("datasets", "dataset"), r"params.yaml dataset: unknown key, did you mean datasets\?"),
        (GOOD.replace("regions: {}", "region: {}"), r"params.yaml data.a.regions: missing"),
        (GOOD.replace("[dev, test]", "[valid]"), "evaluate.splits.0: .*'train', 'dev' or 'test'"),
        ("a: [", "not valid YAML"),
        ("- a", "not a mapping"),
    ],
)
def test_bad_files(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        read_params(write(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="no params file; run in the project's folder"):
        read_params(tmp_path / "params.yaml")


def test_datasets_that_are_not_there(tmp_path):
    params = read_params(write(tmp_path, GOOD))
    with pytest.raises(ConfigError, match=r"no dataset 'b' \(found a\)"):
        params.dataset("b")
    with pytest.raises(ConfigError, match="'b' is not drawn"):
        params.drawing("b")
