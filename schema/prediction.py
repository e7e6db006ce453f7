"""What a run predicts for a post, and its JSON form: one object per post."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

from schema.errors import DataError
from schema.labels import entities as entities_of
from schema.labels import to_tags
from schema.records import Entity, Image, Post, Region, Span

SCHEMA_VERSION = 2  # 1 had neither this number, nor the words' character offsets, nor the caller's id
Scored = tuple[Entity, float | None]  # an entity with its confidence


@dataclass(frozen=True, slots=True)
class PredictedEntity:
    span: Span
    type: str
    text: str
    characters: tuple[int, int]  # [start, end) in the post's text
    confidence: float | None  # P(exactly these words are an entity of this type | post); None if unknown
    grounded_boxes: tuple[Region, ...] = ()  # of noun phrases that overlap it; not evidence that the model used them

    @property
    def entity(self) -> Entity:
        return Entity(self.span, self.type)

    def to_json(self) -> dict[str, Any]:
        return {
            **_entity_json(self.entity),
            "text": self.text,
            "char_start": self.characters[0],
            "char_end": self.characters[1],
            "confidence": _finite(self.confidence),
            "grounded_boxes": [region.to_json() for region in self.grounded_boxes],
        }


@dataclass(frozen=True)
class Prediction:
    """Entities and objects of a post; `synthetic` is true if models trained on drawings were used. Raises DataError."""

    post: Post
    entities: tuple[PredictedEntity, ...] = ()
    objects: tuple[Region, ...] = ()
    synthetic: bool = False

    def __post_init__(self) -> None:
        n_images = len(self.post.images)
        for region in self.objects:
            if region.span:
                self.post.characters(region.span)  # raises DataError beyond the words
            if region.box and region.image_index >= n_images:
                raise DataError(f"a box in image {region.image_index}, but the post has {n_images} image(s)")

    @classmethod
    def make(
        cls, post: Post, entities: Iterable[Scored], objects: Iterable[Region] = (), synthetic: bool = False
    ) -> Self:
        """A prediction from entities with confidences; each gets the boxes of phrases that overlap it."""
        regions, predicted = tuple(objects), []
        phrases = [one for one in regions if one.source == "phrase" and one.box]
        for entity, confidence in entities:
            span, (start, end) = entity.span, post.characters(entity.span)
            boxes = tuple(one for one in phrases if one.span and one.span.overlaps(span))
            predicted.append(PredictedEntity(span, entity.type, post.text[start:end], (start, end), confidence, boxes))
        return cls(post, tuple(predicted), regions, synthetic)

    @property
    def id(self) -> str:
        """The post's id as the caller gave it."""
        return self.post.id if self.post.source_id is None else self.post.source_id

    @cached_property
    def gold(self) -> tuple[Entity, ...] | None:
        """Entities of the post's own tags; None if it has no tags."""
        return None if self.post.tags is None else tuple(entities_of(self.post.tags))

    @cached_property
    def predicted(self) -> tuple[Entity, ...]:
        return tuple(one.entity for one in self.entities)

    @property
    def tags(self) -> list[str]:
        return to_tags(self.post.n_words, self.predicted)

    def to_json(self) -> dict[str, Any]:
        """`start`, `end`: words; `char_start`, `char_end`, `offsets`: characters of `text`; ends are exclusive."""
        post = self.post
        return {
            "schema_version": SCHEMA_VERSION,
            "id": self.id,
            "post_id": post.id,
            "split": post.split,
            "words": list(post.words),
            "text": post.text,
            "offsets": [list(offset) for offset in post.offsets],
            "images": [asdict(image) for image in post.images],
            "gold": None if self.gold is None else [_entity_json(entity) for entity in self.gold],
            "entities": [entity.to_json() for entity in self.entities],
            "objects": [region.to_json() for region in self.objects],
            "synthetic": self.synthetic,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`, except for gold tags that are not part of an entity. Raises DataError."""
        try:
            version = value.get("schema_version", 1)
            if version != SCHEMA_VERSION:
                raise DataError(f"a prediction needs schema version {SCHEMA_VERSION}", found=f"version {version}")
            entities = [(_entity(one), _finite(one["confidence"])) for one in value["entities"]]
            return cls.make(_post(value), entities, map(Region.from_json, value["objects"]), bool(value["synthetic"]))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError("not a prediction", found=f"{type(error).__name__} {error}") from error


def _post(value: Mapping[str, Any]) -> Post:
    words = tuple(map(str, value["words"]))
    tags = None if value["gold"] is None else tuple(to_tags(len(words), [_entity(one) for one in value["gold"]]))
    offsets = tuple((int(start), int(end)) for start, end in value["offsets"])
    images = tuple(_image(one) for one in value["images"])
    source_id = None if value["id"] == value["post_id"] else str(value["id"])
    return Post(str(value["post_id"]), value["split"], words, str(value["text"]), offsets, tags, images, source_id)


def _image(value: Mapping[str, Any]) -> Image:
    size = int(value["width"]), int(value["height"])
    name, digest, reason = (str(value[key]) for key in ("name", "digest", "reason"))
    return Image(name, digest, *size, value["state"], reason, bool(value["synthetic"]))


def _entity_json(entity: Entity) -> dict[str, Any]:
    return {"start": entity.span.start, "end": entity.span.end, "type": entity.type}


def _entity(value: Mapping[str, Any]) -> Entity:
    return Entity(Span(int(value["start"]), int(value["end"])), str(value["type"]))


def _finite(value: float | None) -> float | None:
    """A number that JSON can hold; None for NaN and infinity."""
    return float(value) if value is not None and math.isfinite(value) else None
