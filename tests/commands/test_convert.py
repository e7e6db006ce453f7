"""Converting released weights from the command line."""

import pickle
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

import cli
from cache.models import ModelRef, inspect
from pipeline.grounding.config import GroundConfig
from pipeline.grounding.registry import build_grounder
from tests.pipeline.grounding import released


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("went-off"),)


def fmit(*arguments: object):
    return CliRunner().invoke(cli.main, ["models", "convert", "onestage", *map(str, arguments)])


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FMIT_MODELS", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_what_is_converted_is_found_by_the_setting_alone(tmp_path: Path) -> None:
    file, words = released.write(tmp_path)
    result = fmit(file, "--words", words, "--size-px", 64)
    assert result.exit_code == 0, result.output
    assert result.stdout == "converted flickr_best.pth.tar: .fmit/models/onestage (lstm, anchors of flickr)\n"
    status = inspect(ModelRef("onestage", "grounder", "converted"))
    pinned = GroundConfig(grounder="onestage", digest=status.digest)  # as `fmit models verify` prints it
    assert (status.state, build_grounder(pinned).identity["weights"]) == ("present", status.digest)
    assert fmit(file, "mine", "--words", words, "--trained-on", "referit").stdout.endswith(
        "mine (lstm, anchors of referit)\n"
    )
    assert (tmp_path / "mine" / "config.json").is_file()


def test_a_bert_s_words_come_from_the_hub_s_files(tmp_path: Path) -> None:
    file, words = released.write(tmp_path, "bert")
    result = fmit(file)
    assert result.exit_code == 1
    assert "the file does not contain its vocabulary; fmit models fetch bert-base-uncased" in result.stderr
    snapshot = tmp_path / "hub/models--bert-base-uncased/snapshots/1"
    snapshot.mkdir(parents=True)
    words.rename(snapshot / "vocab.txt")
    (tmp_path / "hub/models--bert-base-uncased/refs").mkdir()
    (tmp_path / "hub/models--bert-base-uncased/refs/main").write_text("1")
    assert fmit(file, "--size-px", 64).stdout.endswith("(bert, anchors of flickr)\n")


def test_errors_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "x.pth.tar").write_bytes(b"not a checkpoint")
    (tmp_path / "w.txt").write_text("a")
    result = fmit(tmp_path / "x.pth.tar", "--words", tmp_path / "w.txt", "--trained-on", "flickr")
    assert result.exit_code == 1
    assert "rejected: the file is damaged or contains more than tensors" in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / ".fmit").exists()


def test_a_folder_that_holds_other_files_is_not_replaced(tmp_path: Path) -> None:
    file, words = released.write(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    result = fmit(file, "mine", "--words", words, "--size-px", 64)
    assert result.exit_code == 1
    assert "mine: refusing to replace a folder that contains other files (found thesis.txt)" in result.stderr
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("data", [b"", b"junk", pickle.dumps(Bomb())])
def test_nothing_of_a_file_that_is_no_checkpoint_is_run(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "flickr.pth.tar").write_bytes(data)
    (tmp_path / "w.txt").write_text("a")
    result = fmit(tmp_path / "flickr.pth.tar", "mine", "--words", tmp_path / "w.txt")
    assert result.exit_code == 1
    assert "download the publisher's file again" in result.stderr
    assert not (tmp_path / "went-off").exists()
    assert not (tmp_path / "mine").exists()
