"""Which objects a post has, in the lattice's order: per picture all of it and one a general word, then phrases."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.regions.config import RegionsConfig
from schema.errors import DataError
from schema.labels import LabelSet
from schema.records import Box, Grounded, Phrase, Post, Region, Span

WHOLE_SCORE = 1.0  # nobody chose the whole picture
EMPTY_SCORE = 0.0  # nothing was found on the empty image


def post_regions(
    post: Post,
    boxes: Sequence[Grounded],
    labels: LabelSet,
    config: RegionsConfig,
    phrases: Sequence[Phrase] = (),
) -> tuple[Region, ...]:
    """The post's objects. `boxes` are those of this post; `phrases` are asked for `no_image: paper` alone.

    Pictures that are not ok have no objects; a post without an ok one has the empty image. Raises DataError where a
    general word has no box: the boxes were made for another label set.
    """
    shown = [index for index, image in enumerate(post.images) if image.ok]
    if not shown:
        return _empty(labels, phrases, config)
    general = {(one.box.image_index, one.text): one for one in boxes if one.source == "general"}
    regions: list[Region] = []
    for index in shown:
        image = post.images[index]
        regions.append(Region("image", "", None, Box(0, 0, image.width, image.height, index), WHOLE_SCORE))
        for word in labels.general_words:
            if (index, word) not in general:
                raise DataError(
                    f"no box for the general word {word!r}",
                    where=f"post {post.id}, image {index}",
                    todo="run the ground stage again",
                )
            regions.append(_region(general[index, word]))
    found = {one.span: one for one in boxes if one.source == "phrase" and one.span is not None}
    return (*regions, *(_region(found[span]) for span in kept_spans(list(found), config.max_phrases)))


def kept_spans(spans: Sequence[Span], cap: int | None) -> list[Span]:
    """At most `cap` spans in order; the longest are left out, of equals the last."""
    kept = sorted(spans, key=lambda span: (span.end - span.start, span))[:cap]
    return sorted(kept)


def _region(one: Grounded) -> Region:
    return Region(one.source, one.text, one.span, one.box, one.score)


def _empty(labels: LabelSet, phrases: Sequence[Phrase], config: RegionsConfig) -> tuple[Region, ...]:
    whole = Region("image", "", None, None, EMPTY_SCORE)
    if config.no_image == "empty":
        return (whole,)
    texts = {phrase.span: phrase.text for phrase in phrases}
    return (
        whole,
        *(Region("general", word, None, None, EMPTY_SCORE) for word in labels.general_words),
        *(
            Region("phrase", texts[span], span, None, EMPTY_SCORE)
            for span in kept_spans(list(texts), config.max_phrases)
        ),
    )
