"""The configuration of training and its presets; preset `paper` has the values of the paper's appendix A."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cache.models import MINILM, ModelRef
from schema.config import Config

Objects = Literal["all", "grounded", "phrases", "general", "image", "grid", "none"]
Control = Literal["none", "shuffled", "empty"]
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]


class VisionConfig(Config):
    """Whether the region network is trained too, end to end, on image crops instead of the pack's features."""

    finetune: bool = False  # True as in appendix A; False: features come from the pack
    weights: str = ""  # initial weights: a file for the same network; "": those that made the pack
    lr: Amount = 5e-5  # appendix A: of pretrained models; 0: crops are read, the network is fixed
    batch: Count = 16  # crops of a forward pass; with checkpointing, the number in memory at once
    checkpointing: bool = True  # recompute activations in the backward pass instead of keeping them


class TrainConfig(Config):
    """All that decides a run's numbers besides approach, seed and data."""

    # Words
    encoder: str = "embedded"  # "embedded", a folder, or a hub name that is already on this machine
    encoder_digest: str = ""  # sha256 that its weights must have, "" for no check
    encoder_revision: str = ""  # of a hub name: commit, tag or branch, "" for main
    max_pieces: Annotated[int, Field(ge=3)] = 128  # word pieces in one encoder pass, with [CLS] and [SEP]
    overflow: Literal["window", "truncate"] = "window"  # longer posts: several passes, or words without a vector
    pooling: Literal["first", "mean"] = "first"  # which pieces of a word make its vector

    words: str = "random"  # vectors of approaches without an encoder: "random", or the path of a GloVe text file

    # Lattice
    width: Count = 512  # d
    heads: Count = 8
    layers: Count = 3  # l
    ffn_dim: Annotated[int, Field(ge=0)] = 0  # 0: 4 d
    relative: bool = True  # False: w/o Rel of Table 5
    objects: Objects = "all"
    control: Control = "none"
    max_objects: Annotated[int, Field(ge=0)] = 64  # per post (grid: per image); what the cap cuts is reported

    # Images
    vision: VisionConfig = VisionConfig()

    # Loss
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    ebd: Literal["separate", "shared", "off"] = "separate"  # weights of the text-only stream
    ebd_weight: Amount = 0.25  # lambda of Eq. 15

    # Optimization
    batch: Count = 16  # posts at most, of all processes that train the model together
    max_cells: Count = 4096  # text and objects of a padded batch; a single post may exceed it
    accumulate: Count = 1  # batches a step
    clip: Amount = 1.0  # gradient norm; 0: not clipped
    lr_encoder: Amount = 5e-5
    lr_head: Amount = 2e-4
    lr_crf: Amount = 2e-4  # of the CRFs' transitions
    weight_decay: Amount = 0.0  # decoupled, on matrices only
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of the whole training
    schedule: Literal["constant", "linear", "cosine"] = "constant"  # after warm-up; linear and cosine end at 0
    epochs: Count = 20
    patience: Count = 5  # epochs without a better dev F1 before training stops
    amp: Literal["off", "bf16", "fp16"] = "off"  # autocast, for GPUs; bf16 for CPUs that have it (fmit doctor)
    compile: bool = False  # the encoder; docs/performance.md has measurements
    deterministic: bool = False  # operations that may differ between two runs raise

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} must be even and a multiple of heads {self.heads}")
        if self.reads_crops and self.objects == "grid":
            raise ValueError("train.vision.finetune reads crops of boxes: objects: grid comes from the pack only")
        return self

    def encoder_ref(self) -> ModelRef:
        if self.encoder == "embedded":
            return MINILM
        return ModelRef(self.encoder, "encoder", "hub", digest=self.encoder_digest, revision=self.encoder_revision)

    @property
    def reads_crops(self) -> bool:
        """Whether image crops are read; not if the approach reads no images."""
        return self.vision.finetune and self.objects != "none" and self.control != "empty"


PRESETS: dict[str, TrainConfig] = {
    # Ours, where the paper is silent: 20 epochs at most, patience 5, gradient norm 1, constant rates, first piece of a
    # word, no weight decay.
    "paper": TrainConfig(encoder="bert-base-cased", overflow="truncate"),
    "minilm": TrainConfig(width=256, lr_head=5e-4, lr_crf=1e-2, warmup=0.1, schedule="linear", epochs=8, patience=3),
    "smoke": TrainConfig(
        width=128, layers=1, lr_head=1e-3, lr_crf=1e-2, warmup=0.1, schedule="linear", epochs=8, patience=4
    ),
    "tiny": TrainConfig(width=64, heads=4, layers=1, lr_head=1e-3, lr_crf=1e-2, epochs=2, patience=2),
}
