"""A project on disk: where its files are, and its stages as calls."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.run_files import refuse_unwritable, run_config
from schema.errors import ConfigError, DataError, PackError, RunError
from schema.lattice import CapCounter
from schema.params import Params, known_split, read_params

if TYPE_CHECKING:
    from cache.models import ModelRef, ModelStatus
    from cache.tables import Posts
    from model.config import TrainConfig
    from model.trainer import EpochResult
    from pipeline.corpus.config import SourceConfig
    from pipeline.corpus.stage import IngestReport
    from pipeline.engine import Progress, Tally
    from pipeline.grounding.config import GroundConfig
    from pipeline.maintenance import PreparedDataset
    from pipeline.phrases.config import PhrasesConfig
    from pipeline.regions.config import RegionsConfig
    from synthetic.draw import DrawReport


@dataclass(frozen=True)
class Project:
    """A folder with params.yaml."""

    root: Path
    params: Params

    @classmethod
    def open(cls, params_path: Path = Path("params.yaml")) -> Project:
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
        named = self.params.dataset(dataset).pack
        return self.root / Path(named).expanduser() if named else self.out(dataset, "pack")

    def images(self, dataset: str) -> Path:
        return self.data(dataset) / self.source(dataset).images

    def run(self, dataset: str, approach: str, seed: int) -> Path:
        return self.root / "runs" / f"{dataset}-{approach}-{seed}"

    def source(self, dataset: str) -> SourceConfig:
        """How the dataset's raw files are written."""
        from pipeline.corpus.config import PRESETS, SourceConfig

        return SourceConfig.from_section(self.params.dataset(dataset).source, f"data.{dataset}.source", PRESETS)

    def phrases_config(self, dataset: str) -> PhrasesConfig:
        from pipeline.phrases.config import PRESETS, PhrasesConfig

        return PhrasesConfig.from_section(self.params.dataset(dataset).phrases, f"data.{dataset}.phrases", PRESETS)

    def ground_config(self, dataset: str, *, allow_synthetic: bool = False) -> GroundConfig:
        from pipeline.grounding.config import PRESETS, GroundConfig

        section = _allowing(self.params.dataset(dataset).ground, allow_synthetic)
        return GroundConfig.from_section(section, f"data.{dataset}.ground", PRESETS)

    def regions_config(self, dataset: str, *, allow_synthetic: bool = False) -> RegionsConfig:
        from pipeline.regions.config import PRESETS, RegionsConfig

        section = _allowing(self.params.dataset(dataset).regions, allow_synthetic)
        return RegionsConfig.from_section(section, f"data.{dataset}.regions", PRESETS)

    def train_config(self, dataset: str) -> TrainConfig:
        """The dataset's settings, before those of an approach; see `config`."""
        from model.config import PRESETS, TrainConfig

        return TrainConfig.from_section(self.params.dataset(dataset).train, f"data.{dataset}.train", PRESETS)

    def used_datasets(self) -> list[str]:
        """Datasets that are prepared or trained on; every dataset where params.yaml names none."""
        named = dict.fromkeys((*self.params.datasets, *self.params.train_on))
        return [name for name in named if name in self.params.data] or list(self.params.data)

    def models(self, datasets: Sequence[str] = ()) -> list[ModelRef]:
        """The models that datasets (none given: all used ones) need, each once with its datasets, in stage order."""
        users: dict[ModelRef, list[str]] = {}
        for name in datasets or self.used_datasets():
            for ref in self.models_of(name):
                users.setdefault(ref, []).append(name)
        return [replace(ref, used_by=tuple(names)) for ref, names in users.items()]

    def models_of(self, dataset: str) -> list[ModelRef]:
        """The models of one dataset's sections; raises ConfigError for a section that cannot be read."""
        from cache.models import MINILM, ModelRef

        phrases, ground = self.phrases_config(dataset), self.ground_config(dataset)
        refs = [
            phrases.model_ref(),
            replace(MINILM, part="parser") if phrases.parser == "embedded" else None,  # it reads MiniLM's layers
            ground.model_ref(),
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
        """State of the models with these names, in the settings or the catalog; no names: all of the settings, once.

        Raises ConfigError for a name that is in neither.
        """
        from cache.models import from_catalog, inspect

        refs: dict[str, ModelRef] = {}
        for ref in self.models([dataset] if dataset else []):
            refs.setdefault(ref.name, ref)
        chosen = []
        for name in dict.fromkeys(names or refs):
            chosen_ref = refs.get(name) or from_catalog(name)
            if chosen_ref is None:
                found, todo = ", ".join(sorted(refs)), "`fmit models list --catalog` lists all names"
                raise ConfigError(f"no model {name!r} in the settings or the catalog", found=found, todo=todo)
            chosen.append(inspect(chosen_ref))
        return chosen

    def posts(self, dataset: str) -> Posts:
        """The dataset's posts with their labels; raises DataError before it was ingested."""
        from cache import tables

        self.params.dataset(dataset)  # raises ConfigError for an unknown name
        return tables.read_posts(self.out(dataset, "posts.parquet"))

    def cap_counter(self, dataset: str) -> CapCounter:
        """Counts what `train.max_objects` leaves out of the lattices; of phrases, those of the last phrases stage."""
        from cache import tables

        path, n_phrases = self.out(dataset, "phrases.parquet"), None
        if path.is_file():
            with suppress(DataError):  # the phrases stage reports and replaces a damaged file
                parsed = tables.read_phrases(path)[0]
                n_phrases = {one.post_id: len({phrase.span for phrase in one.phrases}) for one in parsed}
        general_words = self.source(dataset).label_set().general_words
        return CapCounter(self.train_config(dataset).max_objects, len(general_words), n_phrases)

    def draw(self, dataset: str, progress: Progress) -> DrawReport:
        """Draw a synthetic dataset."""
        from synthetic import draw

        config = draw.DrawConfig.from_section(self.params.drawing(dataset), f"draw.{dataset}", draw.PRESETS)
        return draw.run(config, self.data(dataset), progress)

    def ingest(self, dataset: str, progress: Progress) -> IngestReport:
        """Raw files to posts.parquet; makes DVC watch inputs outside the dataset's folder."""
        from pipeline.corpus import inputs
        from pipeline.corpus import stage as ingest_stage

        source, out = self.source(dataset), self.out(dataset, "posts.parquet")
        inputs.watch(self.root, dataset, self.data(dataset), source)
        cap = self.cap_counter(dataset) if dataset in self.params.train_on else None
        return ingest_stage.run(source, self.data(dataset), out, progress, cap)

    def inputs(self, dataset: str) -> None:
        """Write the digests of the inputs that DVC watches by `inputs/<dataset>/dvc.yaml`."""
        from pipeline.corpus import inputs

        inputs.write_manifest(dataset, self.data(dataset), self.source(dataset))

    def phrases(self, dataset: str, progress: Progress) -> Tally:
        """posts.parquet to phrases.parquet."""
        from pipeline.phrases import stage as phrases_stage

        posts, out = self.out(dataset, "posts.parquet"), self.out(dataset, "phrases.parquet")
        return phrases_stage.run(self.phrases_config(dataset), posts, out, self.store, progress)

    def ground(self, dataset: str, progress: Progress, *, allow_synthetic: bool = False) -> Tally:
        """Posts and phrases to boxes.parquet."""
        from pipeline.grounding import stage as grounding_stage

        config = self.ground_config(dataset, allow_synthetic=allow_synthetic)
        posts, phrases = self.out(dataset, "posts.parquet"), self.out(dataset, "phrases.parquet")
        out = self.out(dataset, "boxes.parquet")
        return grounding_stage.run(config, posts, phrases, self.images(dataset), out, self.store, progress)

    def regions(self, dataset: str, progress: Progress, *, allow_synthetic: bool = False) -> Tally:
        """Posts and boxes to the pack."""
        from pipeline.regions import stage as regions_stage

        config = self.regions_config(dataset, allow_synthetic=allow_synthetic)
        posts, boxes = self.out(dataset, "posts.parquet"), self.out(dataset, "boxes.parquet")
        phrases, out = self.out(dataset, "phrases.parquet"), self.out(dataset, "pack")
        return regions_stage.run(config, posts, boxes, self.images(dataset), out, self.store, progress, phrases=phrases)

    def all_prepared(self, datasets: Sequence[str] = ()) -> dict[str, PreparedDataset]:
        """Datasets by name; without names, all whose posts have been ingested. See `prepared`."""
        ingested = (name for name in self.params.data if self.out(name, "posts.parquet").is_file())
        return {name: self.prepared(name) for name in datasets or ingested}

    def prepared(self, dataset: str) -> PreparedDataset:
        """A dataset's tables as far as they exist, and its parts; DataError where it has no posts.

        Synthetic parts are allowed: the store's rows are named and compared, no result is made.
        """
        from cache import tables
        from pipeline.feature_pipeline import FeaturePipeline
        from pipeline.maintenance import PreparedDataset

        pipeline = FeaturePipeline(
            self.phrases_config(dataset),
            self.ground_config(dataset, allow_synthetic=True),
            self.regions_config(dataset, allow_synthetic=True),
        )
        phrases, boxes = (self.out(dataset, name) for name in ("phrases.parquet", "boxes.parquet"))
        return PreparedDataset(
            tables.read_posts(self.out(dataset, "posts.parquet")),
            tables.read_phrases(phrases)[0] if phrases.is_file() else [],
            tables.read_boxes(boxes)[0] if boxes.is_file() else {},
            self.images(dataset),
            pipeline,
        )

    def train(
        self, dataset: str, approach: str, seed: int, pack: Path | None = None, out: Path | None = None, **more: Any
    ) -> Iterator[EpochResult]:
        """Train; yields each epoch, and publishes the run when the iterator is exhausted.

        `more`: `device`, `progress`, `warn` of `model.train.run`. Raises RunError at once if `out` is not writable.
        """
        from model import train

        out = out or self.run(dataset, approach, seed)
        for folder in (out, out / "model"):
            refuse_unwritable(folder)
        config, posts, resume = (
            self.train_config(dataset),
            self.out(dataset, "posts.parquet"),
            self.root / ".fmit/resume",
        )
        pack, images = pack or self.pack(dataset), self.images(dataset)
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
        return evaluate.run(run, posts, pack, usual, out, asked=required, images=self.images(name), **more)

    def dataset_of(self, run: Path) -> str:
        """The dataset that a run was trained on; raises RunError if no dataset has its posts."""
        if names := self._datasets_of(run):
            return names[0]
        todo = "name a dataset with --dataset, or bring its posts.parquet back (dvc checkout, dvc repro)"
        raise RunError("no dataset here has the posts that this run was trained on", where=str(run), todo=todo)

    def _datasets_of(self, run: Path) -> list[str]:
        """The datasets with a run's posts; where several have them, those with its pack, if any has it."""
        from cache import keys
        from cache.packs import Pack

        inputs = run_config(run)["inputs"]
        tables = {name: self.out(name, "posts.parquet") for name in self.params.data}
        digests = {name: keys.digest_file(path) for name, path in tables.items() if path.is_file()}
        same = [name for name, digest in digests.items() if digest == inputs.get("posts")]
        packs = {name: Pack(self.pack(name)) for name in same if len(same) > 1 and self.pack(name).is_dir()}
        own = {name: [features.digest() for features in (pack, pack.grid) if features] for name, pack in packs.items()}
        return [name for name, known in own.items() if inputs.get("pack") in known] or same

    def runs(self) -> list[tuple[Path, str]]:
        """The runs that params name, each with its dataset."""
        combinations = product(self.params.train_on, self.params.approaches, self.params.seeds)
        return [(self.run(dataset, approach, seed), dataset) for dataset, approach, seed in combinations]

    def config(self, dataset: str, approach: str) -> TrainConfig:
        """The settings of an approach on a dataset; raises ConfigError for an unknown approach."""
        from model.approaches import approach as resolve

        return resolve(approach).configure(self.train_config(dataset))

    def is_up_to_date(self, run: Path, dataset: str, approach: str, seed: int, *, pack: Path | None = None) -> bool:
        """Whether `run` is complete, and trained with the present settings on the present posts and features.

        Features that are not here (only the run was pulled) are not compared. `pack` defaults to the dataset's own.
        """
        from model.objects import open_pack
        from model.train import digests_of, is_up_to_date

        config, posts = self.config(dataset, approach), self.out(dataset, "posts.parquet")
        try:
            features = open_pack(config, pack or self.pack(dataset))
        except PackError:
            features = None
        return is_up_to_date(run, config, seed, digests_of(posts, features))


def store_root(project: Path) -> Path:
    """The store's folder: `$FMIT_STORE`, else `.fmit/store` in the project's folder."""
    return Path(os.environ.get("FMIT_STORE") or project / ".fmit" / "store")


def _allowing(section: Mapping[str, Any], allow_synthetic: bool) -> dict[str, Any]:
    """A section of params with what the command line allows beyond it."""
    return {**section, "allow_synthetic": True} if allow_synthetic else dict(section)
