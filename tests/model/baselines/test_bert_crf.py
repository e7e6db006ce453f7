"""BERT-CRF is the encoder, one linear map and a CRF, and looks at no object."""

from __future__ import annotations

from pathlib import Path

import torch
import torchcrf

from model.baselines.bert import BertCRF
from model.data import PostDataset, collate
from model.objects import FromMemory, no_objects
from model.tagger import ModelSpec
from tests.model.tiny import LABELS, linked, tiny_config


@torch.no_grad()
def test_loss_is_a_crf_over_a_linear_map_of_word_vectors(encoder: Path) -> None:
    config = tiny_config(encoder, objects="none")
    tagger = BertCRF(ModelSpec(config, LABELS, 1)).eval()
    posts, objects = linked(3, 1)
    batches = []
    for source in (FromMemory(objects), no_objects):
        dataset = PostDataset(posts, source, LABELS, tagger.featurizer, config)
        batches.append(collate([dataset[row] for row in range(3)], tagger.featurizer))
    emissions = []
    for post in posts:
        ids = torch.tensor([tagger.featurizer.encode(post.words).windows[0]])
        hidden = tagger.words.model(ids).last_hidden_state[0]
        firsts = [tagger.featurizer.encode(post.words).cells[0].index(cell) for cell in range(1, post.n_words + 1)]
        emissions.append(hidden[firsts] @ tagger.tag.weight.T + tagger.tag.bias)
    peer = torchcrf.CRF(len(LABELS.tags), batch_first=True)
    peer.load_state_dict(tagger.crf.state_dict())
    for row, (post, scores) in enumerate(zip(posts, emissions, strict=True)):
        tags = torch.tensor([[LABELS.tag_ids[tag] for tag in post.tags or ()]])
        expected = -peer(scores[None], tags)
        for batch in batches:
            torch.testing.assert_close(tagger.losses(batch)[row], expected, atol=1e-4, rtol=1e-5)
