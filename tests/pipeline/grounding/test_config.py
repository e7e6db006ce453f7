import pytest

from pipeline.grounding.config import PRESETS, GroundConfig
from schema.errors import ConfigError


def test_a_section_overrides_its_preset() -> None:
    section = {"preset": "embedded", "allow_toy": True, "n_phrases_max": 4}
    config = GroundConfig.from_section(section, "data.d.ground", PRESETS)
    assert config == GroundConfig(grounder="toy-onestage", allow_toy=True, n_phrases_max=4)


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"preset": "huge"}, r"data\.d\.ground: unknown preset 'huge'; use one of embedded, tiny"),
        ({"grounder": "owl"}, r"params\.yaml data\.d\.ground\.grounder: .*'toy-onestage'.*\(found 'owl'\)"),
        ({"weight": "x"}, r"params\.yaml data\.d\.ground\.weight: unknown key, did you mean weights\?"),
        ({"n_phrases_max": -1}, r"data\.d\.ground\.n_phrases_max: .*greater than or equal to 0 \(found -1\)"),
    ],
)
def test_errors_name_the_key(section: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        GroundConfig.from_section(section, "data.d.ground", PRESETS)
