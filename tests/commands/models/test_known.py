import re

from commands.models import known
from tests.imports import ROOT


def test_the_embedded_encoder_is_pinned_alike_everywhere():
    pins = [
        re.findall(r'"([0-9a-f]{64})"', (ROOT / path).read_text(encoding="utf-8"))
        for path in ("pipeline/phrases/minilm.py", "model/encoders.py", "commands/models/known.py")
    ]
    assert pins == [[known.MINILM_SHA256]] * 3
    assert f"{known.MINILM}=={known.MINILM_VERSION}" in (ROOT / "setup.cfg").read_text(encoding="utf-8")


def test_a_models_own_card_names_the_licence(tmp_path):
    assert known.licence("bert-base-cased", tmp_path) == "Apache-2.0"
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# license: no\n")
    assert known.licence("bert-base-cased", tmp_path) == "mit"
    assert known.licence("unknown/model") == "see its source"


def test_only_torchvisions_own_files_have_an_address():
    assert known.torchvision_file("resnet18-f37072fd.pth") is not None
    assert known.torchvision_file("mine.pth") is None
