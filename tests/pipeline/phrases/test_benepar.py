"""Models in benepar's real formats, loaded through the public setting, against the library's own answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from benepar import InputSentence

from pipeline.phrases import benepar
from pipeline.phrases.benepar import load_chart_parser
from pipeline.phrases.config import PhrasesConfig, open_parser
from pipeline.phrases.corenlp import constituents
from schema.errors import WeightsError
from tests.pipeline.phrases import benepar_models

SENTENCES = [
    ["the", "dogs", "saw", "Jordan", "near", "the", "tiny", "dog", "."],
    ["x"],
    ["the", "left", "Jordan"],
    ["the", "tiny", "dogs", "saw", "the", "tinyy", "Jordan", ".", "the", "left", "dog"],
    ["unheard", "of", "words", "saw", "the", "dog"],
]
BUILDERS = [benepar_models.bert_folder, benepar_models.t5_folder, benepar_models.char_checkpoint]


@pytest.fixture(params=BUILDERS, ids=["bert", "t5", "characters"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    builder: Callable[[Path], Path] = request.param
    return builder(tmp_path / "model")


def of_setting(model: Path) -> Any:
    return open_parser(PhrasesConfig(parser="benepar", model=str(model))).load()


def directly(model: Path, words: list[str]) -> list[tuple[int, int, str]]:
    sentence = InputSentence(words=words, space_after=[True] * len(words), escaped_words=words)
    [tree] = load_chart_parser(model).parse([sentence])
    return constituents(tree)


def test_the_setting_loads_a_model_that_answers_as_the_library_does(model: Path) -> None:
    answers = of_setting(model).parse(SENTENCES)
    assert [sorted(answer.spans) for answer in answers] == [sorted(directly(model, words)) for words in SENTENCES]
    assert len({label for answer in answers for _, _, label in answer.spans}) >= 3  # random, yet no empty trees
    assert all("::" not in label for answer in answers for _, _, label in answer.spans)


@pytest.mark.filterwarnings("error:.*arg_constraints")
def test_warnings_that_a_user_cannot_fix_are_hidden(model: Path) -> None:
    of_setting(model).parse(SENTENCES[:2])


def test_neighbours_and_order_change_nothing(model: Path) -> None:
    parser = of_setting(model)
    alone = [parser.parse([words])[0] for words in SENTENCES]
    assert parser.parse(SENTENCES) == alone
    assert parser.parse(SENTENCES[::-1] * 5) == alone[::-1] * 5


def test_a_pass_has_the_shape_that_its_sentence_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = of_setting(benepar_models.bert_folder(tmp_path))
    shapes = []
    forward = parser._model.forward
    monkeypatch.setattr(
        parser._model, "forward", lambda batch: (shapes.append(batch["input_ids"].shape), forward(batch))[1]
    )
    parser.parse([["dog"] * 3, ["dog"] * 20, ["x"] * 4])
    parser.parse([["dog"] * 3])
    assert shapes == [(benepar.N_ROWS, 16), (benepar.N_ROWS, 32), (benepar.N_ROWS, 16)]


def test_what_is_too_long_is_split_and_nothing_is_lost(model: Path) -> None:
    words = ["the", "dogs", "saw", "Jordan", "."] * 150
    [answer] = of_setting(model).parse([words])
    assert answer.fallback == "split"
    assert {word for start, end, _ in answer.spans for word in range(start, end)} == set(range(len(words)))


@pytest.mark.parametrize("word", ["\u00a0", "\u00ad", "\u200b", "\ufe0f", "y" * 5000, "(", "日本", "\x07"])
def test_words_that_yield_no_piece_or_very_many(model: Path, word: str) -> None:
    [answer] = of_setting(model).parse([["the", word, "dog"]])
    assert all(end <= 3 for _, end, _ in answer.spans)
    assert max(end for _, end, _ in answer.spans) == 3  # the root is a constituent of all words


def test_weights_and_version_name_the_parser(tmp_path: Path) -> None:
    one, same, other = (
        of_setting(benepar_models.bert_folder(tmp_path / name, seed)).identity
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    assert one == same
    assert one["weights"] != other["weights"]


def test_a_model_that_is_not_there_says_how_to_get_it() -> None:
    with pytest.raises(WeightsError, match=r"'benepar_en3' is not on this machine.*fmit models fetch benepar_en3"):
        of_setting(Path("benepar_en3"))


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(WeightsError, match="not a benepar model that can be loaded"):
        of_setting(tmp_path)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[Path]]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"config": Hostile(), "state_dict": {}}, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="not a benepar model that can be loaded"):
        of_setting(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()
