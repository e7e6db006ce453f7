"""Names, sizes and anchors of released checkpoints."""

import numpy as np
import pytest
import torch

from pipeline.grounding.onestage.grounder import build
from pipeline.grounding.onestage.release import ANCHORS, COORDINATES, UNUSED, anchors, renamed, settings_of
from tests.pipeline.grounding import released


def plain(kind: str) -> dict[str, torch.Tensor]:
    state = released.checkpoint(kind)["state_dict"]
    return {name.removeprefix("module."): value for name, value in state.items()}


def test_sizes_follow_from_shapes() -> None:
    settings = settings_of(plain("bert"), "flickr", 64)
    sizes = settings["sizes"]
    assert (sizes["size_px"], sizes["stem"], sizes["stem_stride"], sizes["width"]) == (64, 2, 1, 16)
    assert sizes["stages"] == ((4, 1), (8, 2), (16, 8), (32, 8), (64, 4))
    assert settings["text_sizes"] == {
        "vocab_size": 14,
        "hidden_size": 128,
        "num_hidden_layers": 5,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
        "type_vocab_size": 2,
    }
    assert settings_of(plain("lstm"), "flickr", 64)["text_sizes"] == {"n_words": 12, "embedding": 12, "hidden": 8}


@pytest.mark.parametrize("kind", ["bert", "lstm"])
def test_every_tensor_is_used_or_known_to_be_unused(kind: str) -> None:
    state = plain(kind)
    settings = settings_of(state, "flickr", 64)
    tensors, used, bad = renamed(state, settings)
    assert bad == []
    assert {name for name in state.keys() - used if not UNUSED.match(name)} == set()
    assert not any(UNUSED.match(name) for name in used)
    wanted = build(settings).state_dict()
    assert {name: tuple(value.shape) for name, value in tensors.items()} == {
        name: tuple(value.shape) for name, value in wanted.items()
    }


def test_the_first_fusion_is_cut_in_three_and_coordinates_change_places() -> None:
    state = plain("lstm")
    tensors, _, _ = renamed(state, settings_of(state, "flickr", 64))
    first = state["fcn_emb.2.0.conv.weight"].numpy()  # theirs counts from the coarsest, ours from the finest
    assert np.array_equal(tensors["heads.0.visual.weight"], first[:, :16])
    assert np.array_equal(tensors["heads.0.query.weight"], first[:, 16:32, 0, 0])
    for ours, theirs in enumerate(COORDINATES):
        assert np.array_equal(tensors["heads.0.coordinates.weight"][:, ours], first[:, 32 + theirs])
    assert sorted(COORDINATES) == list(range(8))


def test_anchors_are_scaled_and_run_from_large_to_small() -> None:
    found = anchors("refcoco", 208)  # half of the size that they were counted at
    assert found[2] == ((186.5, 163.0), (78.0, 99.0), (58.0, 45.0))
    assert found[0] == ((16.5, 11.5), (8.0, 15.0), (5.0, 6.5))
    assert anchors("referit", 208) == found
    assert anchors("flickr", 416)[2][0] == (352.0, 294.0)
    assert all(len(one) == 9 for one in ANCHORS.values())
