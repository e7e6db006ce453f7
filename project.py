"""A project on disk: where its files are, and its stages as methods."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cache import keys, tables
from cache.models import MINILM, ModelRef, ModelStatus, from_catalog, inspect
from cache.packs import Pack
from cache.run_files import refuse_unwritable, run_config
from cache.tables import Posts
from model import config as training
from pipeline.corpus import config as corpus
from pipeline.corpus import inputs
from pipeline.corpus import stage as ingest_stage
from pipeline.corpus.stage import IngestReport
from pipeline.engine import Progress, Tally
from pipeline.grounding import config as grounding
from pipeline.grounding import registry as grounders
from pipeline.phrases import config as parsing
from pipeline.phrases import stage as phrases_stage
from schema.config import Config
from schema.errors import ConfigError, DataError, PackError, RunError
from schema.lattice import CapCounter
from schema.params import Params, known_split, read_params
from schema.records import PostPhrases, Region
from synthetic import draw
from synthetic.draw import DrawReport

if TYPE_CHECKING:  # these import torch
    from model.trainer import EpochResult
    from pipeline.maintenance import PreparedDataset
    from pipeline.regions.config import RegionsConfig

ConfigT = TypeVar("ConfigT", bound=Config)


@dataclass(frozen=True)
class Project:
    """A folder with params.yaml."""

    root: Path
    params: Params

    @classmethod
    def open(cls, params_path: Path = Path("params.yaml")) -> "Project":
        return cls(params_path.resolve().parent, read_params(params_path))

    @property
    def store(self) -> Path:
        return store_root(self.root)

    def data(self, dataset: str) -> Path:
        return self.root / "data" / dataset

    def out(self, dataset: str, name: str) -> Path:
        """An output of a stage: `posts.parquet`, `phrases.parquet`, `boxes.parquet` or `pack`."""
        return self.root / "out" / dataset / name

    def pack(self, dataset: str) -> Path:
        """Features to train on: `data.NAME.pack`, else the output of the regions stage."""
        given = self.params.dataset(dataset).pack
        return self.root / Path(given).expanduser() if given else self.out(dataset, "pack")

    def images(self, dataset: str) -> Path:
        return self.data(dataset) / self.source(dataset).images

    def run(self, dataset: str, approach: str, seed: int) -> Path:
        return self.root / "runs" / f"{dataset}-{approach}-{seed}"

    def _section(self, config: type[ConfigT], presets: Mapping[str, Any], dataset: str, stage: str) -> ConfigT:
        return config.from_section(getattr(self.params.dataset(dataset), stage), f"data.{dataset}.{stage}", presets)

    def source(self, dataset: str) -> corpus.SourceConfig:
        """How the dataset's raw files are written."""
        return self._section(corpus.SourceConfig, corpus.PRESETS, dataset, "source")

    def phrases_config(self, dataset: str) -> parsing.PhrasesConfig:
        return self._section(parsing.PhrasesConfig, parsing.PRESETS, dataset, "phrases")

    def ground_config(self, dataset: str, *, allow_synthetic: bool = False) -> grounding.GroundConfig:
        section = dict(self.params.dataset(dataset).ground)
        if allow_synthetic:
            section["allow_synthetic"] = True
        return grounders.ground_config(section, f"data.{dataset}.ground")

    def regions_config(self, dataset: str) -> "RegionsConfig":
        from pipeline.regions.config import PRESETS, RegionsConfig

        return self._section(RegionsConfig, PRESETS, dataset, "regions")

    def train_config(self, dataset: str) -> training.TrainConfig:
        """The dataset's settings, before those of an approach; see `config`."""
        return self._section(training.TrainConfig, training.PRESETS, dataset, "train")

    def used_datasets(self) -> list[str]:
        """Datasets that are prepared or trained on; every dataset if params.yaml names none."""
        names = dict.fromkeys((*self.params.datasets, *self.params.train_on))
        return [name for name in names if name in self.params.data] or list(self.params.data)

    def models(self, datasets: Sequence[str] = ()) -> list[ModelRef]:
        """The models that datasets (by default all used ones) need, each once with its datasets, in stage order."""
        users: dict[ModelRef, list[str]] = {}
        for name in datasets or self.used_datasets():
            for ref in self.models_of(name):
                users.setdefault(ref, []).append(name)
        return [replace(ref, used_by=tuple(names)) for ref, names in users.items()]

    def models_of(self, dataset: str) -> list[ModelRef]:
        """The models of one dataset's sections; raises ConfigError for a section that cannot be read."""
        phrases, ground = self.phrases_config(dataset), self.ground_config(dataset)
        refs = [
            phrases.model_ref(),
            replace(MINILM, part="parser") if phrases.parser == "embedded" else None,  # it reads MiniLM's layers
            grounders.model_ref(ground),
            replace(MINILM, part="grounder") if ground.grounder == "detector" else None,  # it compares words by MiniLM
            self.regions_config(dataset).model_ref(),
        ]
        if dataset in self.params.train_on:
            train = self.train_config(dataset)
            refs.append(train.encoder_ref())
            if train.reads_crops and train.vision.weights:
                refs.append(ModelRef(train.vision.weights, "region net", "file"))
        return [ref for ref in refs if ref]

    def model_statuses(self, dataset: str | None = None, names: Sequence[str] = ()) -> list[ModelStatus]:
        """State of the named models, by default all in the settings; raises ConfigError for an unknown name."""
        models, chosen = self.models([dataset] if dataset else []), []
        by_name = {ref.name: ref for ref in reversed(models)}
        for name in dict.fromkeys(names or [ref.name for ref in models]):
            ref = by_name.get(name) or from_catalog(name)
            if ref is None:
                found, todo = ", ".join(sorted(by_name)), "`fmit models list --catalog` lists all names"
                raise ConfigError(f"unknown model {name!r}, not in settings or catalog", found=found, todo=todo)
            chosen.append(inspect(ref))
        return chosen

    def posts(self, dataset: str) -> Posts:
        """The dataset's posts with their labels; raises DataError if it has not been ingested."""
        self.params.dataset(dataset)  # raises ConfigError for an unknown name
        return tables.read_posts(self.out(dataset, "posts.parquet"))

    def parses(self, dataset: str) -> list[PostPhrases]:
        """The dataset's noun phrases; none before the phrases stage has run."""
        path = self.out(dataset, "phrases.parquet")
        return tables.read_phrases(path)[0] if path.is_file() else []

    def boxes(self, dataset: str) -> dict[str, list[Region]]:
        """The dataset's boxes by post id; none before the ground stage has run."""
        path = self.out(dataset, "boxes.parquet")
        return tables.read_boxes(path)[0] if path.is_file() else {}

    def cap_counter(self, dataset: str) -> CapCounter:
        """Counts what `train.max_objects` leaves out of the lattices, given the phrases of the last phrases stage."""
        path, n_phrases = self.out(dataset, "phrases.parquet"), None
        if path.is_file():
            with suppress(DataError):  # the phrases stage reports and replaces a damaged file
                parsed = tables.stream_phrases(path)[0]
                n_phrases = {parse.post_id: len({phrase.span for phrase in parse.phrases}) for parse in parsed}
        general_words = self.source(dataset).label_set().general_words
        return CapCounter(self.train_config(dataset).max_objects, len(general_words), n_phrases)

    def draw(self, dataset: str, progress: Progress) -> DrawReport:
        config = draw.DrawConfig.from_section(self.params.drawing(dataset), f"draw.{dataset}", draw.PRESETS)
        return draw.run(config, self.data(dataset), progress)

    def ingest(self, dataset: str, progress: Progress) -> IngestReport:
        """Write posts.parquet; makes DVC track inputs outside the dataset's folder."""
        source, out = self.source(dataset), self.out(dataset, "posts.parquet")
        inputs.track(self.root, dataset, self.data(dataset), source)
        cap = self.cap_counter(dataset) if dataset in self.params.train_on else None
        return ingest_stage.run(source, self.data(dataset), out, progress, cap)

    def inputs(self, dataset: str) -> None:
        """Write the digests of the inputs that DVC tracks through `inputs/<dataset>/dvc.yaml`."""
        inputs.write_manifest(dataset, self.data(dataset), self.source(dataset))

    def phrases(self, dataset: str, progress: Progress) -> Tally:
        posts, out = self.out(dataset, "posts.parquet"), self.out(dataset, "phrases.parquet")
        return phrases_stage.run(self.phrases_config(dataset), posts, out, self.store, progress)

    def ground(self, dataset: str, progress: Progress, *, allow_synthetic: bool = False) -> Tally:
        from pipeline.grounding import stage as grounding_stage

        config = self.ground_config(dataset, allow_synthetic=allow_synthetic)
        posts, phrases, out = (self.out(dataset, f"{name}.parquet") for name in ("posts", "phrases", "boxes"))
        return grounding_stage.run(config, posts, phrases, self.images(dataset), out, self.store, progress)

    def regions(self, dataset: str, progress: Progress) -> Tally:
        from pipeline.regions import stage as regions_stage

        config = self.regions_config(dataset)
        posts, phrases, boxes = (self.out(dataset, f"{name}.parquet") for name in ("posts", "phrases", "boxes"))
        out = self.out(dataset, "pack")
        return regions_stage.run(config, posts, boxes, self.images(dataset), out, self.store, progress, phrases=phrases)

    def all_prepared(self, datasets: Sequence[str] = ()) -> "dict[str, PreparedDataset]":
        """Datasets by name; without names, all whose posts have been ingested. See `prepared`."""
        ingested = (name for name in self.params.data if self.out(name, "posts.parquet").is_file())
        return {name: self.prepared(name) for name in datasets or ingested}

    def prepared(self, dataset: str) -> "PreparedDataset":
        """The existing tables of a dataset, and its models, synthetic ones too; raises DataError without posts."""
        from pipeline.feature_pipeline import FeaturePipeline
        from pipeline.maintenance import PreparedDataset

        ground = self.ground_config(dataset, allow_synthetic=True)
        pipeline = FeaturePipeline(self.phrases_config(dataset), ground, self.regions_config(dataset))
        parts = self.posts(dataset), self.parses(dataset), self.boxes(dataset), self.images(dataset)
        return PreparedDataset(*parts, pipeline)

    def train(
        self, dataset: str, approach: str, seed: int, pack: Path | None = None, out: Path | None = None, **more: Any
    ) -> "Iterator[EpochResult]":
        """Train; yields each epoch, and publishes the run when the iterator is exhausted.

        `more`: `device`, `progress`, `warn` of `model.train.run`. Raises RunError at once if `out` is not writable.
        """
        from model import train

        out = out or self.run(dataset, approach, seed)
        for folder in (out, out / "model"):
            refuse_unwritable(folder)
        config, posts, pack = self.train_config(dataset), self.out(dataset, "posts.parquet"), pack or self.pack(dataset)
        resume, images = self.root / ".fmit" / "resume", self.images(dataset)
        return train.run(config, approach, seed, posts, pack, out, resume, images=images, **more)

    def evaluate(
        self, run: Path, splits: Sequence[str] = (), dataset: str | None = None, pack: Path | None = None, **more: Any
    ) -> dict[str, Any]:
        """Score a run on splits of its own dataset or another; returns their metrics.

        Without `splits`, on those of `evaluate.splits` that the dataset has. Scores on another dataset than the run's
        own go to `on/DATASET` in its folder. `more`: `device` and `progress` of `model.evaluate.run`.
        """
        from model import evaluate

        name = dataset or self.dataset_of(run)
        posts, pack = self.out(name, "posts.parquet"), pack or self.pack(name)
        required = [known_split(split) for split in splits]
        usual = () if required else self.params.evaluate.splits
        own = not posts.is_file() or name in self._datasets_of(run)
        out = run if own else run / "on" / name
        return evaluate.run(run, posts, pack, usual, out, required=required, images=self.images(name), **more)

    def dataset_of(self, run: Path) -> str:
        """The dataset that a run was trained on; raises RunError if no dataset has its posts."""
        if names := self._datasets_of(run):
            return names[0]
        todo = "name a dataset with --dataset, or bring its posts.parquet back (dvc checkout, dvc repro)"
        raise RunError("no dataset here has the posts that this run was trained on", where=str(run), todo=todo)

    def _datasets_of(self, run: Path) -> list[str]:
        """The datasets with a run's posts; if several have them, those that also have its pack, if any."""
        given = run_config(run)["inputs"]
        paths = {name: self.out(name, "posts.parquet") for name in self.params.data}
        digests = {name: keys.digest_file(path) for name, path in paths.items() if path.is_file()}
        same = [name for name, digest in digests.items() if digest == given.get("posts")]
        packs = {name: Pack(self.pack(name)) for name in same if len(same) > 1 and self.pack(name).is_dir()}
        own = {name: [features.digest() for features in (pack, pack.grid) if features] for name, pack in packs.items()}
        return [name for name, own_digests in own.items() if given.get("pack") in own_digests] or same

    def runs(self) -> list[tuple[Path, str]]:
        """The runs that params name, each with its dataset."""
        combinations = product(self.params.train_on, self.params.approaches, self.params.seeds)
        return [(self.run(dataset, approach, seed), dataset) for dataset, approach, seed in combinations]

    def config(self, dataset: str, approach: str) -> training.TrainConfig:
        """The settings of an approach on a dataset; raises ConfigError for an unknown approach."""
        from model.approaches import approach as resolve

        return resolve(approach).configure(self.train_config(dataset))

    def is_up_to_date(self, run: Path, dataset: str, approach: str, seed: int, *, pack: Path | None = None) -> bool:
        """Whether `run` is complete, and was trained with the current settings, posts and (if they exist) features."""
        from model.objects import open_pack
        from model.train import digests_of, is_up_to_date

        config, posts = self.config(dataset, approach), self.out(dataset, "posts.parquet")
        try:
            features = open_pack(config, pack or self.pack(dataset))
        except PackError:  # for example, if only the run was pulled
            features = None
        return is_up_to_date(run, config, seed, digests_of(posts, features))


def store_root(project: Path) -> Path:
    """The store's folder: `$FMIT_STORE`, else `.fmit/store` in the project's folder."""
    return Path(os.environ.get("FMIT_STORE") or project / ".fmit" / "store")
