"""The rows that a post has left in the store: named one by one, since keys are digests and say nothing themselves.

More is named than the stages asked for: boxes of every run of words, so that other caps and kinds of phrases, used
before today's parameters, leave nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cache import keys
from cache.codecs import name_of, open_shard, producer_of
from cache.shards import Damaged
from cache.shelf import shelves
from cache.store import Store
from pipeline.chain import Chain
from pipeline.grounding import extract as grounding
from pipeline.phrases import extract as parsing
from pipeline.phrases import view
from pipeline.regions import extract as regions
from pipeline.regions import grid
from pipeline.regions.extract import Crop
from pipeline.rows import Made
from schema.records import Box, Image, Post
from vision.boxes import clip

DTYPES = ("float16", "float32")  # in which a feature may have been stored


def keys_of(made: Made, post: Post, stores: Mapping[str, Store]) -> set[str]:
    """The keys of all rows that today's parser, grounder and network can have made of a post."""
    chain, found = made.build(), set()
    sentences = view.sentences(post.words)
    if sentences:
        found.add(parsing.row_key(sentences, chain.parser))
    texts = {*made.posts.labels.general_words, *_runs(post)}
    texts |= {phrase.text for one in made.phrases if one.post_id == post.id for phrase in one.phrases}
    texts |= {box.text for box in made.boxes if box.post_id == post.id}
    for index, image in enumerate(post.images):
        if image.ok:
            asked = _queries(image, texts, chain) | _merged(made, post, image, chain)
            found |= asked
            boxes = {box.box for box in made.boxes if box.post_id == post.id and box.box.image_index == index}
            found |= _crops(image, boxes | _boxes(image, index, asked, stores["boxes"]), chain)
    return found


def sharing(post: Post, others: Sequence[Post]) -> list[Post]:
    """The posts that have a picture of this post, or the same words for a parser."""
    digests, words = {image.digest for image in post.images if image.ok}, _words(post)
    return [
        other
        for other in others
        if not digests.isdisjoint(image.digest for image in other.images if image.ok)
        or (words and words == _words(other))
    ]


def strangers(root: Path, chain: Chain) -> list[str]:
    """What other parts than these have made rows that the store holds, by name: theirs cannot be told by post."""
    known = [part.identity.items() for part in (chain.parser, chain.grounder, chain.net)]
    found = set()
    for shelf in shelves(root):
        for name in shelf.names():
            try:
                with open_shard(shelf, name) as reader:
                    producer: dict[str, Any] = producer_of(reader.note)
            except (FileNotFoundError, Damaged):  # gone, or for forget to remove
                continue
            if not any(part <= producer.items() for part in known):  # a producer names versions of libraries too
                found.add(name_of(producer))
    return sorted(found)


def _words(post: Post) -> list[tuple[str, ...]]:
    return [sentence.words for sentence in view.sentences(post.words)]


def _runs(post: Post) -> Iterator[str]:
    """Every text that a phrase of the post can have."""
    for words in _words(post):
        for start in range(len(words)):
            for end in range(start + 1, len(words) + 1):
                yield " ".join(words[start:end])


def _queries(image: Image, texts: set[str], chain: Chain) -> set[str]:
    name = keys.key("grounder", **chain.grounder.identity)
    return {grounding.row_key(grounding.Query(image, text), name) for text in texts}


def _merged(made: Made, post: Post, image: Image, chain: Chain) -> set[str]:
    """The queries that a merging grounder was asked: with each text those that were read with it, as parsed last."""
    if not chain.grounder.merges:
        return set()
    name = keys.key("grounder", **chain.grounder.identity)
    parsed = [phrase for one in made.phrases if one.post_id == post.id for phrase in one.phrases]
    kept = grounding.kept_phrases(parsed, chain.ground)
    asked = grounding.queries(post, made.posts.labels, kept, merged=True)
    return {grounding.row_key(query, name) for query in asked if query.image == image}


def _boxes(image: Image, index: int, asked: set[str], store: Store) -> set[Box]:
    """The boxes that the store holds for these queries."""
    held = sorted(asked - set(store.missing(sorted(asked))))
    corners = [(row["x0"], row["y0"], row["x1"], row["y1"]) for (row,) in store.get(held)]
    return {clip(one, image.width, image.height, index)[0] for one in corners}


def _crops(image: Image, boxes: set[Box], chain: Chain) -> set[str]:
    whole, name = Crop(image, Box(0, 0, image.width, image.height)), regions.net_key(chain.net)
    crops = [whole, *(Crop(image, box) for box in boxes)]
    found = {regions.row_key(crop, name, dtype) for crop in crops for dtype in DTYPES}
    return found | {regions.row_key(whole, regions.net_key(chain.net.for_grid()), grid.DTYPE, "grid")}
