import pytest

from pipeline.grounding.config import PRESETS, WEIGHTS, GroundConfig
from pipeline.grounding.registry import GROUNDERS
from schema.errors import ConfigError


def test_a_section_overrides_its_preset() -> None:
    section = {"preset": "embedded", "allow_synthetic": True, "n_phrases_max": 4}
    config = GroundConfig.from_section(section, "data.d.ground", PRESETS)
    assert config == GroundConfig(grounder="toy-onestage", allow_synthetic=True, n_phrases_max=4)


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"preset": "huge"}, r"data\.d\.ground: unknown preset 'huge'; use one of embedded, owlv2, paper, tiny"),
        ({"grounder": "owl"}, r"params\.yaml data\.d\.ground\.grounder: .*'toy-onestage'.*\(found 'owl'\)"),
        ({"weight": "x"}, r"params\.yaml data\.d\.ground\.weight: unknown key, did you mean weights\?"),
        ({"n_phrases_max": -1}, r"data\.d\.ground\.n_phrases_max: .*greater than or equal to 0 \(found -1\)"),
    ],
)
def test_errors_name_the_key(section: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        GroundConfig.from_section(section, "data.d.ground", PRESETS)


def test_sources_of_weights_and_devices() -> None:
    assert GroundConfig(grounder="owlv2").source() == "google/owlv2-base-patch16-ensemble"
    assert GroundConfig(grounder="owlv2", weights="mine").source() == "mine"
    assert GroundConfig(grounder="random").source() == ""
    assert GroundConfig(device="cuda:1").torch_device() == "cuda:1"
    assert GroundConfig().torch_device() in ("cpu", "cuda")
    assert set(WEIGHTS) == set(GROUNDERS)
