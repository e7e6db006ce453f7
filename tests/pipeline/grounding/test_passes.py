import torch

from pipeline.grounding.grounder import deterministic_inference, pad_batch


def test_passes_are_filled_by_their_first_row() -> None:
    rows = torch.tensor([[1.0], [2.0]])
    assert pad_batch(rows, 4).tolist() == [[1], [2], [1], [1]]
    assert pad_batch(rows, 2).tolist() == [[1], [2]]


def test_no_gradients_and_no_tf32() -> None:
    before = torch.backends.cudnn.allow_tf32
    with deterministic_inference():
        assert torch.is_inference_mode_enabled()
        assert not torch.backends.cudnn.allow_tf32
    assert not torch.is_inference_mode_enabled()
    assert torch.backends.cudnn.allow_tf32 == before
