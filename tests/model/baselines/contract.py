"""What the tests of encoder-based baselines share: posts of many shapes, and what every approach has to keep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.packs import Objects, PackMeta
from model.approaches import approach
from model.checkpoint import RunInfo, save_run
from model.config import TrainConfig
from model.data import Batch, PostDataset, collate
from model.objects import FromMemory
from model.predict import Prediction, Run
from model.tagger import ModelSpec, Tagger
from model.trainer import Checkpointer
from schema.records import Box, Post, Region, Span
from tests.model.test_fit import make, results, weights
from tests.model.test_resume import Killed, Killer
from tests.model.tiny import DIM, LABELS, post, tiny_config

SHAPES = (
    (4, 3, 2),
    (7, 1, 0),
    (1, 2, 1),
    (5, 0, 0),
)  # words; whole images or grid cells; noun phrases. No image last


def posts_of(shapes: Sequence[tuple[int, int, int]] = SHAPES, seed: int = 0) -> tuple[list[Post], dict[str, Objects]]:
    """Posts with image, general-word and phrase objects; entities of one and of several words."""
    rng = np.random.default_rng(seed)
    posts, objects = [], {}
    for number, (n_words, n_images, n_phrases) in enumerate(shapes):
        words = [("the", "left", "rex", "and", "dog")[(number + k) % 5] for k in range(n_words)]
        tags = ["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "I-LOC", "O"][:n_words]
        regions = [Region("image", "", None, Box(0, 0, 8, 8), 1.0) for _ in range(n_images)]
        regions += [Region("general", word, None, Box(0, 0, 4, 4), 0.5) for word in LABELS.general_words if n_phrases]
        spans = [Span(k, min(k + 2, n_words)) for k in range(n_phrases)]
        regions += [Region("phrase", "x", span, Box(0, 0, 4, 4), 0.5) for span in spans]
        posts.append(post(number, "train", words, tags))
        objects[posts[-1].id] = Objects(rng.normal(size=(len(regions), DIM)).astype(np.float32), tuple(regions))
    return posts, objects


def spec_of(encoder: Path, name: str, **changes: object) -> ModelSpec:
    words = [one.words for one in posts_of()[0]]
    return ModelSpec(approach(name).configure(tiny_config(encoder, **changes)), LABELS, DIM, None, words)


def built(given: ModelSpec, name: str) -> Tagger:
    torch.manual_seed(0)
    return approach(name).build(given).eval()


def batch_of(tagger: Tagger, config: TrainConfig, posts: Sequence[Post], objects: dict[str, Objects]) -> Batch:
    dataset = PostDataset(posts, FromMemory(objects), LABELS, tagger.featurizer, config)
    return collate([dataset[row] for row in range(len(posts))], tagger.featurizer)


class Keeps:
    """What every approach has to keep: the tests of a class that names one."""

    name: str

    @torch.no_grad()
    def test_padding_changes_nothing(self, encoder: Path) -> None:
        """A post's scores and loss are the same alone and beside longer posts with more objects."""
        given = spec_of(encoder, self.name)
        tagger, (posts, objects) = built(given, self.name), posts_of()
        together = batch_of(tagger, given.config, posts, objects)
        emissions, losses = tagger.emissions(together), tagger.losses(together)
        for row, one in enumerate(posts):
            alone = batch_of(tagger, given.config, [one], objects)
            torch.testing.assert_close(tagger.emissions(alone)[0], emissions[row, : one.n_words], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(tagger.losses(alone)[0], losses[row], atol=1e-4, rtol=1e-5)

    def test_saved_and_loaded_it_predicts_the_same(self, encoder: Path, tmp_path: Path) -> None:
        """Confidences included, in batches of any size."""
        given = spec_of(encoder, self.name)
        tagger, (posts, objects) = built(given, self.name), posts_of()
        meta = PackMeta(DIM, "float32", 2, LABELS.general_words, True, {"regions": {"identity": {"name": "synthetic"}}})
        info = RunInfo(self.name, 0, given.config, LABELS, meta)
        save_run(tmp_path / "model", info, tagger)
        own = [objects[one.id] for one in posts]
        before = Run(info, tagger, torch.device("cpu")).predict(posts, own)
        again = Run.load(tmp_path, "cpu")
        after = again.predict(posts, own)
        assert [one.to_json() for one in after] == [one.to_json() for one in before]
        singly = [again.predict([one], [objects[one.id]])[0] for one in posts]
        for one, other in zip(after, singly, strict=True):
            assert one.tags == other.tags
            assert sure(one) == pytest.approx(sure(other), abs=1e-5)

    def test_resumes_to_the_same_bits(self, encoder: Path, tmp_path: Path) -> None:
        """Killed after a step and started again, training ends with the bits of one that was never stopped."""
        unbroken = make(encoder, name=self.name, epochs=2)
        curves = results(unbroken)
        with pytest.raises(Killed):
            list(make(encoder, name=self.name, epochs=2).epochs(Killer(tmp_path, 2, True)))
        again = make(encoder, name=self.name, epochs=2)
        assert [result.curve() for result in again.epochs(Checkpointer(tmp_path, every_s=1e9))] == curves
        assert torch.equal(weights(again), weights(unbroken))


class LearnsAll(Keeps):
    """And no weight stands idle."""

    def test_every_weight_learns(self, encoder: Path) -> None:
        given = spec_of(encoder, self.name)
        tagger = built(given, self.name)
        tagger.losses(batch_of(tagger, given.config, *posts_of())).sum().backward()
        assert {name for name, one in tagger.named_parameters() if one.grad is None or not one.grad.any()} == set()


class LearnsWithoutImages(Keeps):
    """And posts without an object train it."""

    def test_posts_without_images_train(self, encoder: Path) -> None:
        """A batch in which no post has an object: every gradient is finite, and some are not zero."""
        given = spec_of(encoder, self.name)
        tagger, (posts, objects) = built(given, self.name), posts_of(((4, 0, 0), (2, 0, 0)))
        batch = batch_of(tagger, given.config, posts, objects)
        assert batch.objects.shape == (2, 0, DIM)
        tagger.losses(batch).sum().backward()
        gradients = [parameter.grad for parameter in tagger.parameters() if parameter.grad is not None]
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
        assert sum(bool(gradient.any()) for gradient in gradients) > 10


def sure(prediction: Prediction) -> list[float]:
    return [found.confidence for found in prediction.entities]
