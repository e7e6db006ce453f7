from cache.keys import digest_file
from cache.weights import EMBEDDED
from synthetic import parser_training
from synthetic.parser_training import Score


def test_the_card_names_weights_figure_and_terms(tmp_path):
    path = tmp_path / "parser.safetensors"
    path.write_bytes(b"weights")
    made = parser_training.card(path, {"treebank": "t" * 64, "recipe": "{}"}, 3463, Score(90, 100, 85, 400))
    for part in (
        digest_file(path),
        "3,463 trees",
        "F1 0.895",
        "on edited text, not on posts",
        "CC BY-SA 4.0",
        "t" * 64,
    ):
        assert part in made


def test_the_shipped_card_is_of_the_shipped_weights():
    card = (EMBEDDED / "parser.md").read_text()
    assert digest_file(EMBEDDED / "parser.safetensors") in card
    assert (EMBEDDED / "parser.safetensors").stat().st_size <= 6_000_000
