import re
from pathlib import Path

import pytest

from schema.errors import ConfigError
from schema.params import known_split, read_params

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
        (GOOD + "  a: {}\n", r"params.yaml:7: duplicate key 'a': it is also in line 6; keep one of the two"),
        (GOOD + "seeds: [0]\nseeds: [1]\n", r"params.yaml:8: duplicate key 'seeds': it is also in line 7"),
        (
            GOOD.replace("  a:", "  ../x:"),
            r"params.yaml data.../x: '../x' is not a valid name: use letters, digits, _ and -",
        ),
        (GOOD.replace("[a]", "[a/b]"), "datasets.0: 'a/b' is not a valid name"),
        (GOOD.replace("{a: {preset", "{a.b: {preset"), "draw.a.b: 'a.b' is not a valid name"),
        (GOOD + "train_on: ['']\n", "train_on.0: '' is not a valid name"),
        (GOOD + "seeds: [-1]\n", r"seeds.0: .*greater than or equal to 0 \(found -1\)"),
        (GOOD + f"seeds: [{2**63}]\n", "seeds.0: .*less than"),
        ("a: [", "not valid YAML"),
        ("- a", "not a mapping"),
    ],
)
def test_bad_files(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        read_params(write(tmp_path, text))


def test_an_error_names_the_file_that_was_read(tmp_path):
    other = write(tmp_path, GOOD.replace("datasets", "dataset")).rename(tmp_path / "other.yaml")
    with pytest.raises(ConfigError, match=f"^{re.escape(str(other))} dataset: unknown key"):
        read_params(other)


def test_merged_keys_may_be_overridden(tmp_path):
    text = "x: &base {source: {}, phrases: {}, ground: {}, regions: {}}\ndata: {a: {<<: *base, pack: p}}\n"
    with pytest.raises(ConfigError, match=r"params.yaml x: unknown key"):
        read_params(write(tmp_path, text))  # read so far: the merge itself is no repeat
    anchored = "data:\n  a: &a {source: {}, phrases: {}, ground: {}, regions: {}, pack: p}\n  b: {<<: *a, pack: q}\n"
    assert read_params(write(tmp_path, anchored)).dataset("b").pack == "q"


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"params.yaml: cannot read this file"):
        read_params(tmp_path / "params.yaml")
    with pytest.raises(ConfigError, match="cannot read this file"):
        read_params(tmp_path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="parameter file not found; run in the project folder"):
        read_params(tmp_path / "params.yaml")


def test_datasets_that_are_not_there(tmp_path):
    params = read_params(write(tmp_path, GOOD))
    with pytest.raises(ConfigError, match=r"unknown dataset 'b' \(found a\)"):
        params.dataset("b")
    with pytest.raises(ConfigError, match="'b' is not a synthetic dataset"):
        params.drawing("b")


def test_splits_by_name():
    assert [known_split(name) for name in ("train", "dev", "valid", "test")] == ["train", "dev", "dev", "test"]
    for name in ("predict", "", "Dev"):
        with pytest.raises(ConfigError, match=f"unknown split '{name}'; use train, dev, test"):
            known_split(name)
