"""docs/reproduce.md at the models' true sizes: random weights in the publishers' formats, a few posts, to a report.

The commands of the page run in its order. What cannot be had here is replaced: the CoreNLP server by a small one that
answers in its format, the downloads by files in the folder models, the images by noise.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchvision.models import resnet152
from transformers import BertConfig, BertForPreTraining

from tests import own
from tests.imports import ROOT
from tests.pipeline.grounding import released
from tests.pipeline.phrases.test_corenlp import Handler

CORPUS = ROOT.parent / "shared" / "data" / "twitter2017"
N_POSTS = 25  # of each file
BERT_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CORPUS.is_dir(), reason=f"needs the corpus in {CORPUS}"),
]


@pytest.fixture(scope="module")
def corenlp() -> str:
    """The address of a server that answers as CoreNLP does."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def vocabulary(folder: Path, size: int) -> Path:
    """A vocab.txt of a BERT: special pieces, letters, and fillers up to its published size."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = [*MARKS, *letters, *("##" + letter for letter in letters)]
    pieces += [f"[unused{number}]" for number in range(size - len(pieces))]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vocab.txt"
    path.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return path


def bert_base_cased(folder: Path) -> None:
    vocabulary(folder, 28996)
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "model_max_length": 512}))
    BertForPreTraining(BertConfig(vocab_size=28996, **BERT_BASE)).save_pretrained(folder)


def one_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The grounder's checkpoint at its published width, and the vocabulary of its BERT."""
    words = vocabulary(folder, 30522)
    monkeypatch.setattr(released, "THINNER", 1)
    monkeypatch.setattr(released, "WIDTH", 512)
    config = BertConfig(vocab_size=30522, **BERT_BASE)
    monkeypatch.setattr(released, "_bert_config", lambda: config)
    state, _ = released._bert(0)
    monkeypatch.setattr(released, "_bert", lambda seed: (state, BERT_BASE["hidden_size"]))
    path = folder / "flickr_best.pth.tar"
    torch.save(released.checkpoint("bert"), path, _use_new_zipfile_serialization=False)
    return path, words


def settings(corenlp: str) -> str:
    """The settings of the page for one corpus, one seed and two approaches, with models of no published digest."""
    page = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    params = yaml.safe_load(text)
    block = params["data"]["twitter2017"]
    block["source"] |= {"files": {"train": "train.txt", "dev": "valid.txt"}, "first": N_POSTS}
    block["phrases"] |= {"url": corenlp}
    block["regions"] |= {"weights": "models/resnet152.pth"}
    block["train"] |= {"epochs": 1, "encoder": "models/bert-base-cased"}
    params |= {
        "datasets": ["twitter2017"],
        "train_on": ["twitter2017"],
        "approaches": ["fmit-l3", "bert-crf"],
        "seeds": [0],
        "evaluate": {"splits": ["dev"]},
        "data": {"twitter2017": block},
    }
    return yaml.safe_dump(params)


def test_the_page_at_true_size(tmp_path: Path, corenlp: str, monkeypatch: pytest.MonkeyPatch) -> None:
    project = own.make(tmp_path / "project", settings(corenlp))
    project.patience_s = 3600
    data, models = project.root / "data" / "twitter2017", project.root / "models"
    (data / "images").mkdir(parents=True)
    for name in ("train.txt", "valid.txt"):
        (data / name).write_bytes((CORPUS / name).read_bytes())
        ids = re.findall(r"^IMGID:(\w+)", (CORPUS / name).read_text(encoding="utf-8"), re.M)[:N_POSTS]
        for seed, image_id in enumerate(ids):
            noise = np.random.default_rng(seed).integers(0, 255, (240, 320, 3), dtype=np.uint8)
            Image.fromarray(noise).save(data / "images" / f"{image_id}.jpg")
    models.mkdir()
    torch.save(resnet152().state_dict(), models / "resnet152.pth")
    bert_base_cased(models / "bert-base-cased")
    checkpoint, words = one_stage(tmp_path / "release", monkeypatch)

    project.fmit("models", "list")
    project.fmit("models", "convert", "onestage", str(checkpoint), "--words", str(words))
    project.fmit("models", "verify")
    project.fmit("doctor")
    project.dvc("repro", "--glob", "regions@*")
    project.dvc("repro")
    assert "twitter2017-fmit-l3-0" in project.fmit("summary")
    project.fmit("tables")
    project.fmit("compare", "runs/twitter2017-fmit-l3-0", "runs/twitter2017-bert-crf-0")
    for approach in ("fmit-l3", "bert-crf"):
        assert (project.root / f"runs/twitter2017-{approach}-0/report.html").stat().st_size > 10_000
