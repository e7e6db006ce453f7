"""The phrases stage with the embedded parser: normalized words, pieces, network, chart, store, beside the bare network.

The bare passes run on the recorded tensors of the stage's own passes.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from bench import timing
from cache.store import Store
from pipeline.phrases.config import PhrasesConfig, open_parser
from pipeline.phrases.normalize import sentences
from pipeline.phrases.span_network import SpanNet
from pipeline.phrases.span_parser import EmbeddedParser, span_indices
from pipeline.phrases.stage import STORE_SCHEMA, find_phrases
from schema.records import Post, joined
from synthetic.posts import draft

Inputs = tuple[Tensor, ...]


class Bare(nn.Module):
    """The parser's network from pieces to label scores of all spans."""

    def __init__(self, net: SpanNet) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, ids: Tensor, pool: Tensor, shapes: Tensor, sentence: Tensor, start: Tensor, end: Tensor
    ) -> Tensor:
        return self.net.spans(self.net.fences(self.net.words(ids, pool, shapes)), sentence, start, end)


def drawn_posts(n_posts: int) -> list[Post]:
    """Synthetic posts."""
    posts = []
    for number in range(n_posts):
        words = (*draft(0, "train", number).words, str(number))  # all different: equal normalized words share one parse
        text, offsets = joined(words)
        posts.append(Post(f"p{number}", "train", words, text, offsets))
    return posts


def recorded(parser: EmbeddedParser, posts: Sequence[Post]) -> list[Inputs]:
    """The tensors of every pass that the stage makes over the posts."""
    made: list[Inputs] = []
    net, usual = parser._net, parser._net.words

    def watched(ids: Tensor, pool: Tensor, shapes: Tensor) -> Tensor:
        made.append((ids, pool, shapes, *span_indices([ids.shape[1] - 2] * len(ids))))
        return usual(ids, pool, shapes)

    net.words = watched  # type: ignore[method-assign]
    parser.parse([sentence.words for post in posts for sentence in sentences(post.words)])
    del net.words
    return made


def run_stage(parser: EmbeddedParser, config: PhrasesConfig, posts: Sequence[Post]) -> None:
    """The stage without its tables: rows into an empty store."""
    with tempfile.TemporaryDirectory() as place, Store(place, schema=STORE_SCHEMA) as store:
        find_phrases(posts, config, parser, store)


def run_plain_loop(parser: EmbeddedParser, posts: Sequence[Post]) -> None:
    """One sentence at a time, as a spaCy component parses."""
    for post in posts:
        for sentence in sentences(post.words):
            parser.parse([sentence.words])


def run_bare(forward: Callable[..., object], made: Sequence[Inputs]) -> None:
    with torch.inference_mode():
        for inputs in made:
            forward(*inputs)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """The figures of the embedded parser."""
    config = PhrasesConfig()
    parser = open_parser(config).load()
    assert isinstance(parser, EmbeddedParser)
    posts = drawn_posts(options.items)
    made, bare = recorded(parser, posts), Bare(parser._net)
    forms: dict[str, Callable[..., object]] = {"eager": bare}
    if not options.no_compile:
        forms["compiled"] = torch.compile(copy.deepcopy(bare), dynamic=True)
    trials = {name: partial(run_bare, forward, made) for name, forward in forms.items()}
    runs: dict[str, tuple[timing.Run, int]] = {
        f"bare: {name}": (trials[name], len(posts)) for name in timing.choose(trials, 1, len(posts))
    }
    runs["stage"] = partial(run_stage, parser, config, posts), len(posts)
    plain = posts[: options.plain]
    runs["plain loop"] = partial(run_plain_loop, parser, plain), len(plain)
    with torch.backends.mkldnn.flags(enabled=False):  # torch's counter does not count oneDNN's own products
        flops = timing.count_flops(partial(run_bare, bare, made)) / len(posts)
    return timing.compare(runs, options.runs, flops, "cpu", "float32")
