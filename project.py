"""A project on disk: where its files lie, and its stages as calls. What a CLI command of a stage or run calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.run_files import refuse_unwritable, run_config
from schema.errors import PackError, RunError
from schema.params import Params, known_split, read_params

if TYPE_CHECKING:
    from cache.models import ModelRef
    from model.config import TrainConfig
    from model.trainer import EpochResult
    from pipeline.corpus.config import SourceConfig
    from pipeline.corpus.stage import IngestReport
    from pipeline.engine import Progress, Tally
    from pipeline.grounding.config import GroundConfig
    from pipeline.phrases.config import PhrasesConfig
    from pipeline.regions.config import RegionsConfig
    from pipeline.store_rows import PreparedDataset
    from synthetic.draw import DrawReport


@dataclass(frozen=True)
class Project:
    """A folder with params.yaml: where its files lie, and its stages as calls."""

    root: Path
    params: Params

    @classmethod
    def open(cls, params_path: Path = Path("params.yaml")) -> Project:
        return cls(params_path.resolve().parent, read_params(params_path))

    @property
    def store(self) -> Path:
        """Rows remembered across reruns."""
        return store_root(self.root)

    @property
    def resume(self) -> Path:
        """What a killed training goes on from."""
        return self.root / ".fmit" / "resume"

    def data(self, dataset: str) -> Path:
        """Raw files of a dataset."""
        return self.root / "data" / dataset

    def out(self, dataset: str, name: str) -> Path:
        """An out of a stage: `posts.parquet`, `phrases.parquet`, `boxes.parquet` or `pack`."""
        return self.root / "out" / dataset / name

    def pack(self, dataset: str) -> Path:
        """Features to train on: those that `data.NAME.pack` names, else the regions stage's own."""
        named = self.params.dataset(dataset).pack
        return self.root / Path(named).expanduser() if named else self.out(dataset, "pack")

    def images(self, dataset: str) -> Path:
        """Images of a dataset."""
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

        section = allowing(self.params.dataset(dataset).ground, allow_synthetic)
        return GroundConfig.from_section(section, f"data.{dataset}.ground", PRESETS)

    def regions_config(self, dataset: str, *, allow_synthetic: bool = False) -> RegionsConfig:
        from pipeline.regions.config import PRESETS, RegionsConfig

        section = allowing(self.params.dataset(dataset).regions, allow_synthetic)
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

        phrases = self.phrases_config(dataset)
        refs = [phrases.model_ref()]
        if phrases.parser == "embedded":  # it reads MiniLM's layers
            refs.append(replace(MINILM, part="parser"))
        ground = self.ground_config(dataset)
        refs += [ref for ref in (ground.model_ref(),) if ref]
        if ground.grounder == "detector":  # it compares phrases with class names by MiniLM
            refs.append(replace(MINILM, part="grounder"))
        refs.append(self.regions_config(dataset).model_ref())
        if dataset in self.params.train_on:
            train = self.train_config(dataset)
            refs.append(train.encoder_ref())
            if train.reads_crops and train.vision.weights:
                refs.append(ModelRef(train.vision.weights, "region net", "file"))
        return refs

    def draw(self, dataset: str, progress: Progress) -> DrawReport:
        """Draw a dataset of the project's own."""
        from synthetic import draw

        config = draw.DrawConfig.from_section(self.params.drawing(dataset), f"draw.{dataset}", draw.PRESETS)
        return draw.run(config, self.data(dataset), progress)

    def ingest(self, dataset: str, progress: Progress) -> IngestReport:
        """Raw files to posts.parquet; DVC is made to watch inputs that it does not see in the dataset's folder."""
        from pipeline.corpus import inputs
        from pipeline.corpus import stage as ingest_stage

        inputs.watch(self.root, dataset, self.data(dataset), self.source(dataset))
        return ingest_stage.run(self.source(dataset), self.data(dataset), self.out(dataset, "posts.parquet"), progress)

    def inputs(self, dataset: str) -> None:
        """Write the digests of the inputs that DVC watches by `inputs/<dataset>/dvc.yaml`."""
        from pipeline.corpus import inputs

        inputs.write_manifest(dataset, self.data(dataset), self.source(dataset))

    def phrases(self, dataset: str, progress: Progress) -> Tally:
        """posts.parquet to phrases.parquet."""
        from pipeline.phrases import stage as phrases_stage

        config = self.phrases_config(dataset)
        posts, out = self.out(dataset, "posts.parquet"), self.out(dataset, "phrases.parquet")
        return phrases_stage.run(config, posts, out, self.store, progress)

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

    def prepared_datasets(self) -> list[str]:
        """The datasets whose posts have been ingested."""
        return [name for name in self.params.data if self.out(name, "posts.parquet").is_file()]

    def prepared(self, dataset: str) -> PreparedDataset:
        """A dataset's tables as far as they exist, and its parts; DataError where it has no posts.

        Synthetic parts are allowed: the store's rows are named and compared, no result is made.
        """
        from cache import tables
        from pipeline.feature_pipeline import FeaturePipeline
        from pipeline.store_rows import PreparedDataset

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
        self,
        dataset: str,
        approach: str,
        seed: int,
        *,
        pack: Path | None = None,
        out: Path | None = None,
        device: str = "auto",
        progress: Progress | None = None,
        warn: Callable[[str], None] = lambda message: None,
    ) -> Iterator[EpochResult]:
        """Train; yields each epoch, and publishes the run when the iterator is exhausted.

        `warn` gets each message about data that make the training or its scores meaningless, the first ones before the
        first epoch.
        Raises RunError at once where `out` could not be written in the end.
        """
        from model import train

        out = out or self.run(dataset, approach, seed)
        for folder in (out, out / "model"):
            refuse_unwritable(folder)
        return train.run(
            self.train_config(dataset),
            approach,
            seed,
            self.out(dataset, "posts.parquet"),
            pack or self.pack(dataset),
            out,
            self.resume,
            images=self.images(dataset),
            device=device,
            progress=progress,
            warn=warn,
        )

    def evaluate(
        self,
        run: Path,
        splits: Sequence[str] = (),
        *,
        dataset: str | None = None,
        pack: Path | None = None,
        device: str = "auto",
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Score a run on splits of its own dataset or another; returns their metrics.

        Without `splits`, on those of `evaluate.splits` that the dataset has. Scores on other posts than the run's own
        go to `on/DATASET` in its folder, and leave its own alone.
        """
        from cache import keys
        from model import evaluate

        name = dataset or self.dataset_of(run)
        posts, features = self.out(name, "posts.parquet"), pack or self.pack(name)
        asked = [known_split(split) for split in splits]
        usual = () if asked else self.params.evaluate.splits
        own = not posts.is_file() or keys.digest_file(posts) == run_config(run)["inputs"].get("posts")
        out = run if own else run / "on" / name
        return evaluate.run(
            run, posts, features, usual, out, asked=asked, images=self.images(name), device=device, progress=progress
        )

    def dataset_of(self, run: Path) -> str:
        """The dataset that a run was trained on: its posts, and its pack, have the digests that the run was given.

        Of datasets that share their posts and differ in other sections, the pack tells which; the first one will do for
        a run that read none.
        """
        from cache import keys

        inputs = run_config(run)["inputs"]
        tables = {name: self.out(name, "posts.parquet") for name in self.params.data}
        same = [
            name for name, posts in tables.items() if posts.is_file() and keys.digest_file(posts) == inputs.get("posts")
        ]
        if len(same) > 1:
            same.sort(key=lambda name: inputs.get("pack") not in self.digests_of_pack(name))
        if same:
            return same[0]
        todo = "name a dataset with --dataset, or bring its posts.parquet back (dvc checkout, dvc repro)"
        raise RunError("no dataset here has the posts that this run was trained on", where=str(run), todo=todo)

    def digests_of_pack(self, dataset: str) -> set[str]:
        """Of the dataset's features as they are now, and of the grid among them; none where there are none."""
        from cache.packs import Pack

        if not self.pack(dataset).is_dir():
            return set()
        opened = Pack(self.pack(dataset))
        return {one.digest() for one in (opened, opened.grid) if one}

    def runs(self) -> list[tuple[Path, str]]:
        """The runs that params name, each with its dataset."""
        named = self.params
        return [
            (self.run(dataset, approach, seed), dataset)
            for dataset in named.train_on
            for approach in named.approaches
            for seed in named.seeds
        ]

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


def allowing(section: Mapping[str, Any], allow_synthetic: bool) -> dict[str, Any]:
    """A section of params with what the command line allows beyond it."""
    return {**section, "allow_synthetic": True} if allow_synthetic else dict(section)
