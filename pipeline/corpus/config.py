"""The section `source` of a dataset: the names of its files, their format, and their labels."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from schema.config import Config
from schema.errors import ConfigError, DataError
from schema.labels import DEFAULT_LABELS, LabelSet, Scheme
from schema.records import SPLITS, Split

Format = Literal["conll", "jsonl", "text"]
Export = Literal["doccano", "prodigy", "labelstudio"]
FIELDS = ("id", "tokens", "labels", "text", "entities", "images")  # of a post in JSONL
READING = ("scheme", "columns", "fields", "ignore", "export", "label_names", "offsets", "tokenizer", "image_suffix")


class Columns(Config):
    """Columns of a CoNLL file, counted from 0, or from the end as -1; `label: null`: the file has no labels."""

    word: int = 0
    label: int | None = -1


class SplitConfig(Config):
    """A dev split cut from train by a hash of the post ids, so that added posts do not move others."""

    dev: float = Field(gt=0, lt=1)  # share of train
    seed: int = Field(default=0, ge=0)


class SourceConfig(Config):
    """A dataset folder: one file per split, and a folder of images."""

    format: Format = "conll"
    files: dict[str, str] = Field(default={"train": "train.txt", "dev": "valid.txt", "test": "test.txt"})
    first: int | None = Field(default=None, ge=1)  # posts of each file, from its start: a subset
    split: SplitConfig | None = None
    images: str = "images"
    image_suffix: str = ".jpg"  # of CoNLL's IMGID, which names an image without it; others are tried after it
    scheme: Scheme = "iob2"
    columns: Columns | None = None  # CoNLL; None: the word and its label, or the word
    fields: dict[str, str] = Field(default_factory=dict)  # JSONL: our key -> the key in the file
    ignore: tuple[str, ...] = ()  # JSONL: keys that look like labels or images and are not
    export: Export | None = None  # the annotation tool that wrote the JSONL
    label_names: tuple[str, ...] = ()  # JSONL: tags of labels given as numbers
    offsets: Literal["characters", "utf16"] = "characters"  # what start and end of entities count
    tokenizer: str = "en"  # of text: the code of one of spaCy's languages, or `characters`
    labels: dict[str, str] = Field(default=dict(DEFAULT_LABELS.words))  # type: its general word
    aliases: dict[str, str] | None = None  # None: the default aliases, as far as their types are in `labels`

    @field_validator("files")
    @classmethod
    def _one_name_per_split(cls, files: dict[str, str]) -> dict[str, str]:
        by_split = {"dev" if name == "valid" else name: file for name, file in files.items()}
        if len(by_split) < len(files):
            raise ValueError("valid and dev are the same split: give only one of them")
        if unknown := [name for name in by_split if name not in SPLITS]:
            raise ValueError(f"unknown split {unknown[0]}, use train, dev, test")
        if not by_split:
            raise ValueError("name at least one file")
        return {split: by_split[split] for split in SPLITS if split in by_split}

    @field_validator("fields")
    @classmethod
    def _known_fields(cls, fields: dict[str, str]) -> dict[str, str]:
        if unknown := [name for name in fields if name not in FIELDS]:
            raise ValueError(f"unknown field {unknown[0]}, use {', '.join(FIELDS)}: the key in the file")
        return fields

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        if self.split and ("train" not in self.files or "dev" in self.files):
            raise ValueError("split.dev is cut from train: give files.train but not files.dev")
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

    def reading(self) -> dict[str, Any]:
        """The keys, besides labels, that say how posts are written: a run stores them for its own input."""
        return self.model_dump(mode="json", include=set(READING), exclude_defaults=True)

    def paths(self, folder: Path) -> dict[Split, Path]:
        """The file of each named split, in the order train, dev, test; raises ConfigError for a missing file."""
        paths: dict[Split, Path] = {split: folder / self.files[split] for split in SPLITS if split in self.files}
        for split, path in paths.items():
            if not path.is_file():
                todo = f"put it there, or leave {split} out of source.files"
                raise ConfigError(f"no {split} file", where=str(path), todo=todo)
        return paths


_JSONL = SourceConfig(format="jsonl", files={split: f"{split}.jsonl" for split in ("train", "dev", "test")})
_JSON_FILES = {split: f"{split}.json" for split in _JSONL.files}
PRESETS: dict[str, SourceConfig] = {
    "conll": SourceConfig(),
    "jsonl": _JSONL,
    "smoke": _JSONL.model_copy(update={"image_suffix": ".png"}),
    "doccano": _JSONL.model_copy(update={"export": "doccano"}),
    "prodigy": _JSONL.model_copy(update={"export": "prodigy"}),
    "labelstudio": SourceConfig(format="jsonl", files=_JSON_FILES, export="labelstudio"),
}
