"""What a dataset's raw files are called, how they are written, and which labels they carry."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from schema.config import Config
from schema.errors import ConfigError, DataError
from schema.labels import DEFAULT_LABELS, LabelSet, Scheme
from schema.records import SPLITS, Split

Format = Literal["conll", "jsonl"]
_CONLL_FILES = {"train": "train.txt", "dev": "valid.txt", "test": "test.txt"}
_JSONL_FILES = {"train": "train.jsonl", "dev": "dev.jsonl", "test": "test.jsonl"}


class SourceConfig(Config):
    """A dataset folder: one file a split, and a folder of pictures (absent: every picture is missing)."""

    format: Format = "conll"
    files: dict[str, str] = Field(default=_CONLL_FILES)
    first: int | None = Field(default=None, ge=1)  # posts of each file, from its start: a shard of a dataset
    images: str = "images"
    image_suffix: str = ".jpg"  # of CoNLL's IMGID, which names a picture without it; others are tried after it
    scheme: Scheme = "iob2"
    labels: dict[str, str] = Field(default=dict(DEFAULT_LABELS.words))  # type: its general word
    aliases: dict[str, str] | None = None  # None: the default aliases, as far as their types are in `labels`

    @field_validator("files")
    @classmethod
    def _one_name_a_split(cls, files: dict[str, str]) -> dict[str, str]:
        renamed = [("dev" if name == "valid" else name, file) for name, file in files.items()]
        named = dict(renamed)
        if len(named) < len(renamed):
            raise ValueError("valid and dev are one split: name it once")
        unknown = [name for name in named if name not in SPLITS]
        if unknown or not named:
            raise ValueError(
                f"unknown split {unknown[0]}, use train, dev, test" if unknown else "name at least one file"
            )
        return {split: named[split] for split in SPLITS if split in named}

    @model_validator(mode="after")
    def _labels_hold_together(self) -> SourceConfig:
        try:
            self.label_set()
        except DataError as error:
            raise ValueError(str(error)) from None
        return self

    def label_set(self) -> LabelSet:
        if self.aliases is not None:
            return LabelSet(self.labels, self.aliases)
        defaults = DEFAULT_LABELS.aliases.items()
        return LabelSet(self.labels, {a: t for a, t in defaults if t in self.labels and a not in self.labels})

    def paths(self, folder: Path) -> dict[Split, Path]:
        """The file of each named split, in the order train, dev, test; raises ConfigError for one that is absent."""
        found: dict[Split, Path] = {}
        for split in SPLITS:
            if split in self.files:
                found[split] = folder / self.files[split]
                if not found[split].is_file():
                    raise ConfigError(
                        f"no {split} file",
                        where=str(found[split]),
                        todo=f"put it there, or leave {split} out of source.files",
                    )
        return found


PRESETS: dict[str, SourceConfig] = {
    "conll": SourceConfig(),
    "jsonl": SourceConfig(format="jsonl", files=_JSONL_FILES),
    "smoke": SourceConfig(format="jsonl", files=_JSONL_FILES, image_suffix=".png"),
}
