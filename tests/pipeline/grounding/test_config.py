import pytest

from pipeline.grounding.config import GroundConfig
from pipeline.grounding.registry import ground_config, weights_of
from schema.errors import ConfigError


def test_a_section_overrides_its_preset() -> None:
    section = {"preset": "synthetic", "allow_synthetic": True, "n_phrases_max": 4}
    config = ground_config(section, "data.d.ground")
    assert config == GroundConfig(grounder="synthetic-grounder", allow_synthetic=True, n_phrases_max=4)


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"preset": "huge"}, r"data\.d\.ground: unknown preset 'huge'; use one of embedded, owlv2, paper"),
        (
            {"grounder": "owl"},
            r"data\.d\.ground\.grounder: unknown grounder 'owl'; use one of detector, synthetic-grounder, ",
        ),
        ({"weight": "x"}, r"params\.yaml data\.d\.ground\.weight: unknown key, did you mean weights\?"),
        ({"n_phrases_max": -1}, r"data\.d\.ground\.n_phrases_max: .*greater than or equal to 0 \(found -1\)"),
    ],
)
def test_errors_name_the_key(section: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        ground_config(section, "data.d.ground")


def test_sources_of_weights_and_devices() -> None:
    assert weights_of(GroundConfig(grounder="owlv2")) == "google/owlv2-base-patch16-ensemble"
    assert weights_of(GroundConfig(grounder="owlv2", weights="mine")) == "mine"
    assert weights_of(GroundConfig(grounder="random")) == ""
    assert GroundConfig(device="cuda:1").torch_device() == "cuda:1"
    assert GroundConfig().torch_device() in ("cpu", "cuda")
    assert (weights_of(GroundConfig()), weights_of(GroundConfig(detector="retinanet_resnet50_fpn"))) == (
        "nanodet-g",
        "retinanet_resnet50_fpn_coco-eeacb38b.pth",
    )
