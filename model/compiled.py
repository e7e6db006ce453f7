"""The encoder compiled (`train.compile`), with an eager fallback that says so.

Off by default, for these reasons. On a CPU it loses: forward and backward of MiniLM over 16 posts of 16 words took 250
ms of processor time compiled and 186 ms eager (22 words: 331 and 244; one thread), since eager code has the faster
matrix library (`kernels.gemm`), and compiling took 26 s. On a GPU it was not measured. What is compiled is the
pretrained encoder, most of a step's operations; the interaction has a backward pass of its own and the CRF a loop,
which a compiler would only unroll. Batches differ in length, so shapes are dynamic, and no CUDA graph is captured: a
graph holds one shape, and one for every shape that posts come in would be kept in memory.
"""

from __future__ import annotations

import warnings

import torch
from torch._dynamo.exc import TorchDynamoException

from model.batch import Batch
from model.tagger import EncoderTagger, Tagger


def compile_encoder(tagger: Tagger, batch: Batch) -> bool:
    """Let the encoder's forward and backward pass run compiled, tried on `batch`; False, with a warning, where it does
    not work here (no C++ compiler, an encoder that cannot be traced): then it runs as before."""
    if not isinstance(tagger, EncoderTagger):
        warnings.warn("train.compile: this approach has no pretrained encoder; it runs eagerly", stacklevel=2)
        return False
    encoder = tagger.words.model
    encoder.forward = torch.compile(encoder.forward, dynamic=True)  # type: ignore[method-assign]
    try:
        tagger.words(batch.inputs, len(batch)).sum().backward()
    except (TorchDynamoException, RuntimeError) as error:  # the backward pass may be compiled late
        del encoder.forward
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        warnings.warn(f"train.compile: the encoder runs eagerly, it could not be compiled: {reason}", stacklevel=2)
        return False
    finally:
        tagger.zero_grad(set_to_none=True)
    return True
