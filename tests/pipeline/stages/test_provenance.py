"""Outs name parameters and identities, and nothing of the machine."""

from pipeline.grounding.config import GroundConfig
from pipeline.phrases.config import PhrasesConfig
from pipeline.provenance import SILENT, note, portable
from pipeline.regions.config import RegionsConfig


def test_the_configuration_can_be_built_again_without_machine_and_paths(tmp_path):
    path = tmp_path / "resnet152.pth"
    path.touch()
    config = RegionsConfig(net="resnet152", weights=str(path), store_dtype="float16", batch=3, workers=9, device="cuda")
    found = note(config, {"name": "resnet152", "weights": "d"}, synthetic=False)
    assert (found["identity"], found["synthetic"]) == ({"name": "resnet152", "weights": "d"}, False)
    assert str(tmp_path) not in str(found)
    assert found["config"]["weights"] == "resnet152.pth"
    again = RegionsConfig.checked(found["config"], "regions")
    assert (again.net, again.store_dtype) == ("resnet152", "float16")
    assert (again.batch, again.workers, again.device) == (None, RegionsConfig().workers, "auto")


def test_what_changes_no_number_changes_no_note():
    base = note(RegionsConfig(), {}, synthetic=False)
    silent = {
        "actors": 2,
        "batch": 7,
        "device": "cpu",
        "digest": "00",
        "engine": "ray",
        "grid": True,
        "n_buckets": 3,
        "workers": 0,
    }
    for name, value in silent.items():
        assert note(RegionsConfig(**{name: value}), {}, synthetic=False) == base, name
    assert note(PhrasesConfig(url="http://other", timeout_s=3), {}, synthetic=False) == note(
        PhrasesConfig(), {}, synthetic=False
    )
    allowed = note(GroundConfig(allow_synthetic=True), {}, synthetic=True)
    assert allowed == note(GroundConfig(), {}, synthetic=True)
    loud = {
        "crop_px": 9,
        "dtype": "float16",
        "max_phrases": 2,
        "net": "resnet18",
        "no_image": "paper",
        "resize_px": 300,
    }
    loud |= {"store_dtype": "float16", "weights": "x", "weights_variant": "v2"}
    for name, value in loud.items():
        assert note(RegionsConfig(**{name: value}), {}, synthetic=False) != base, name
    assert {*silent, *loud} == set(RegionsConfig.model_fields), "each field is one or the other"
    assert note(GroundConfig(n_phrases_max=3), {}, synthetic=False) != note(GroundConfig(), {}, synthetic=False)
    known = {*RegionsConfig.model_fields, *PhrasesConfig.model_fields, *GroundConfig.model_fields}
    assert known >= SILENT


def test_names_that_are_no_path_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.pth").touch()
    names = ["embedded", "", "google/owlv2", "models/a.pth", "/elsewhere/b.pth", "~/c.pth", "./models/a.pth"]
    assert [portable(name) for name in names] == ["embedded", "", "google/owlv2", "a.pth", "b.pth", "c.pth", "a.pth"]
