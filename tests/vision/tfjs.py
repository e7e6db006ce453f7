"""A tfjs graph model, evaluated operation by operation as its file says: the oracle for the converted network."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vision.nanodet_tfjs import read_weights


def evaluate(graph: dict[str, Any], binary: bytes, x: Tensor) -> dict[str, Tensor]:
    """Every output of the graph for the input [1, 3, 416, 416]."""
    constants = {name: torch.from_numpy(np.array(value)) for name, value in read_weights(graph, binary).items()}
    values = {name: value.float() if value.dtype == torch.half else value for name, value in constants.items()}
    pending = [node for node in graph["modelTopology"]["node"] if node["op"] != "Const"]
    while pending:
        ready = [node for node in pending if all(source.split(":")[0] in values for source in node.get("input", ()))]
        assert ready, "the graph has a cycle, or an input without a source"
        for node in ready:
            inputs = [values[source.removesuffix(":0")] for source in node.get("input", ())]
            result = x if node["op"] == "Placeholder" else OPERATIONS[node["op"]](node.get("attr", {}), *inputs)
            if isinstance(result, tuple):
                values |= {f"{node['name']}:{at}": part for at, part in enumerate(result)}
                result = result[0]
            values[node["name"]] = result
        pending = [node for node in pending if node["name"] not in values]
    return {name: values[name.removesuffix(":0")] for name in graph["signature"]["outputs"]}


def _numbers(attributes: dict[str, Any], name: str) -> list[int]:
    return [int(value) for value in attributes[name]["list"]["i"]]


def _check(attributes: dict[str, Any]) -> None:
    assert base64.b64decode(attributes["padding"]["s"]) == b"VALID"
    assert base64.b64decode(attributes["data_format"]["s"]) == b"NHWC"


def _convolution(attributes: dict[str, Any], x: Tensor, weight: Tensor) -> Tensor:
    _check(attributes)
    assert _numbers(attributes, "dilations") == [1, 1, 1, 1]
    stride = _numbers(attributes, "strides")[1:3]
    return F.conv2d(x.permute(0, 3, 1, 2), weight.permute(3, 2, 0, 1), stride=stride).permute(0, 2, 3, 1)


def _max_pool(attributes: dict[str, Any], x: Tensor) -> Tensor:
    _check(attributes)
    sizes = _numbers(attributes, "ksize")[1:3], _numbers(attributes, "strides")[1:3]
    return F.max_pool2d(x.permute(0, 3, 1, 2), *sizes).permute(0, 2, 3, 1)


def _pad(attributes: dict[str, Any], x: Tensor, widths: Tensor, value: Tensor | None = None) -> Tensor:
    return F.pad(x, widths.flip(0).flatten().tolist(), value=0.0 if value is None else float(value))


def _resize(attributes: dict[str, Any], x: Tensor, size: Tensor) -> Tensor:
    assert attributes["half_pixel_centers"]["b"]
    assert not attributes["align_corners"]["b"]
    resized = F.interpolate(x.permute(0, 3, 1, 2), size.tolist(), mode="bilinear", align_corners=False)
    return resized.permute(0, 2, 3, 1)


def _sparse_to_dense(
    attributes: dict[str, Any], where: Tensor, size: Tensor, values: Tensor, default: Tensor
) -> Tensor:
    assert len(where) == 0
    return default.expand(size.tolist())


def _concat(attributes: dict[str, Any], *inputs: Tensor) -> Tensor:
    return torch.cat(inputs[:-1], int(inputs[-1]))


OPERATIONS = {
    "Add": lambda attributes, x, y: x + y,
    "AddV2": lambda attributes, x, y: x + y,
    "ConcatV2": _concat,
    "Conv2D": _convolution,
    "Identity": lambda attributes, x: x,
    "LeakyRelu": lambda attributes, x: F.leaky_relu(x, attributes["alpha"]["f"]),
    "MaxPool": _max_pool,
    "Pad": _pad,
    "PadV2": _pad,
    "Reshape": lambda attributes, x, shape: x.reshape(shape.tolist()),
    "ResizeBilinear": _resize,
    "Sigmoid": lambda attributes, x: x.sigmoid(),
    "SparseToDense": _sparse_to_dense,
    "SplitV": lambda attributes, x, sizes, axis: x.split(sizes.tolist(), int(axis)),
    "Transpose": lambda attributes, x, order: x.permute(order.tolist()),
}
