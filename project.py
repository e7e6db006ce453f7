"""A project on disk: where its files lie, and its stages as calls. What a CLI command of a stage or run calls."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schema.params import Params, read_params

if TYPE_CHECKING:
    from model.fit import EpochResult
    from pipeline.corpus.config import SourceConfig
    from pipeline.engine import Progress, Tally
    from pipeline.stages.ingest import IngestReport
    from report.show import Shown
    from report.thumbnails import Loader


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
        """Rows remembered across reruns: `$FMIT_STORE`, else `.fmit/store`."""
        return Path(os.environ.get("FMIT_STORE") or self.root / ".fmit" / "store")

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
        """Pictures of a dataset."""
        return self.data(dataset) / self.source(dataset).images

    def run(self, dataset: str, approach: str, seed: int) -> Path:
        return self.root / "runs" / f"{dataset}-{approach}-{seed}"

    def source(self, dataset: str) -> SourceConfig:
        """How the dataset's raw files are written."""
        from pipeline.corpus.config import PRESETS, SourceConfig

        return SourceConfig.from_section(self.params.dataset(dataset).source, f"data.{dataset}.source", PRESETS)

    def draw(self, dataset: str, progress: Progress) -> str:
        """Draw a dataset of the project's own; returns its line."""
        from embedded import draw

        config = draw.DrawConfig.from_section(self.params.drawing(dataset), f"draw.{dataset}", draw.PRESETS)
        return draw.run(config, self.data(dataset), progress).line(dataset)

    def ingest(self, dataset: str, progress: Progress) -> IngestReport:
        """Raw files to posts.parquet."""
        from pipeline.stages import ingest

        return ingest.run(self.source(dataset), self.data(dataset), self.out(dataset, "posts.parquet"), progress)

    def phrases(self, dataset: str, progress: Progress) -> Tally:
        """posts.parquet to phrases.parquet."""
        from pipeline.phrases.config import PRESETS, PhrasesConfig
        from pipeline.stages import phrases

        config = PhrasesConfig.from_section(self.params.dataset(dataset).phrases, f"data.{dataset}.phrases", PRESETS)
        posts, out = self.out(dataset, "posts.parquet"), self.out(dataset, "phrases.parquet")
        return phrases.run(config, posts, out, self.store, progress)

    def ground(self, dataset: str, progress: Progress, *, allow_toy: bool = False) -> Tally:
        """Posts and phrases to boxes.parquet."""
        from pipeline.grounding.config import PRESETS, GroundConfig
        from pipeline.stages import ground

        section = allowing(self.params.dataset(dataset).ground, allow_toy)
        config = GroundConfig.from_section(section, f"data.{dataset}.ground", PRESETS)
        posts, phrases = self.out(dataset, "posts.parquet"), self.out(dataset, "phrases.parquet")
        out = self.out(dataset, "boxes.parquet")
        return ground.run(config, posts, phrases, self.images(dataset), out, self.store, progress)

    def regions(self, dataset: str, progress: Progress, *, allow_toy: bool = False) -> Tally:
        """Posts and boxes to the pack."""
        from pipeline.regions.config import PRESETS, RegionsConfig
        from pipeline.stages import regions

        section = allowing(self.params.dataset(dataset).regions, allow_toy)
        config = RegionsConfig.from_section(section, f"data.{dataset}.regions", PRESETS)
        posts, boxes = self.out(dataset, "posts.parquet"), self.out(dataset, "boxes.parquet")
        phrases, out = self.out(dataset, "phrases.parquet"), self.out(dataset, "pack")
        return regions.run(config, posts, boxes, self.images(dataset), out, self.store, progress, phrases=phrases)

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
    ) -> Iterator[EpochResult]:
        """Train; yields each epoch, and publishes the run when the iterator is exhausted."""
        from model import train
        from model.config import PRESETS, TrainConfig

        config = TrainConfig.from_section(self.params.dataset(dataset).train, f"data.{dataset}.train", PRESETS)
        return train.run(
            config,
            approach,
            seed,
            self.out(dataset, "posts.parquet"),
            pack or self.pack(dataset),
            out or self.run(dataset, approach, seed),
            self.resume,
            device=device,
            progress=progress,
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
        """Score a run on splits (none: `evaluate.splits`) of its own dataset or another; returns metrics.json."""
        from model import evaluate

        name = dataset or self.dataset_of(run)
        posts, features = self.out(name, "posts.parquet"), pack or self.pack(name)
        chosen = splits or self.params.evaluate.splits
        return evaluate.run(run, posts, features, chosen, device=device, progress=progress)

    def report(self, run: Path, out: Path | None = None, *, dataset: str | None = None, redact: bool = False) -> Path:
        """Write a run's page; returns where it is."""
        from report import html

        page = out or run / "report.html"
        load_image = self.loader(self.images(dataset or self.dataset_of(run)))
        html.write(run, page, load_image=load_image, redact=redact or self.params.report.redact)
        return page

    def shown(self, dataset: str, post_id: str) -> Shown:
        """A post with what the stages so far made of it; raises DataError for an id that the dataset lacks."""
        from cache import tables
        from cache.packs import Pack
        from pipeline.phrases import view
        from report.show import Shown
        from schema.errors import DataError

        table = tables.read_posts(self.out(dataset, "posts.parquet"))
        post = next((one for one in table.posts if one.id == post_id), None)
        if post is None:
            raise DataError(f"no post {post_id!r}", where=f"dataset {dataset}", todo="ids are in posts.parquet")
        phrases, boxes = (self.out(dataset, name) for name in ("phrases.parquet", "boxes.parquet"))
        opened = Pack.open(self.pack(dataset)) if self.pack(dataset).is_dir() else None
        parsed = tables.read_phrases(phrases)[0] if phrases.is_file() else []
        grounded = tables.read_boxes(boxes)[0] if boxes.is_file() else []
        return Shown(
            post,
            table.labels,
            tuple(tuple(zip(one.words, one.index, strict=True)) for one in view.sentences(post.words)),
            next((one for one in parsed if one.post_id == post_id), None),
            tuple(one for one in grounded if one.post_id == post_id),
            opened.read(post_id).regions if opened and post_id in opened else (),
            bool(opened and opened.meta.toy),
        )

    def sheet(self, dataset: str, out: Path, *, n_posts: int, redact: bool = False) -> None:
        """Write a contact sheet of a dataset's boxes."""
        from cache import tables
        from report import sheet

        table = tables.read_posts(self.out(dataset, "posts.parquet"))
        boxes, meta = tables.read_boxes(self.out(dataset, "boxes.parquet"))
        sheet.write_html(
            table.posts,
            boxes,
            table.labels,
            out,
            title=dataset,
            load_image=self.loader(self.images(dataset)),
            toy=bool(meta.get("ground", {}).get("toy")),
            redact=redact,
            n=n_posts,
        )

    def loader(self, folder: Path) -> Loader:
        """Decoded pictures for pages; None for one that is not there or is no longer what ingest saw."""
        from schema.errors import ImageError
        from schema.records import Image
        from vision import images

        def load(name: str, digest: str) -> Any:
            try:
                return images.load(folder, Image(name, digest))
            except ImageError:
                return None  # the page counts pictures that it could not show

        return load

    def dataset_of(self, run: Path) -> str:
        """The dataset that a run was trained on: the one whose posts have the digest that the run was given."""
        from cache import keys
        from schema.errors import RunError

        wanted = run_config(run)["inputs"]["posts"]
        for name in self.params.data:
            posts = self.out(name, "posts.parquet")
            if posts.is_file() and keys.digest_file(posts) == wanted:
                return name
        todo = "name a dataset with --dataset, or bring its posts.parquet back (dvc checkout, dvc repro)"
        raise RunError("no dataset here has the posts that this run was trained on", where=str(run), todo=todo)

    def is_fresh(self, run: Path, dataset: str, approach: str, seed: int) -> bool:
        """Whether a run is there, trained with today's settings on today's posts and pack."""
        from model.config import PRESETS, TrainConfig
        from model.train import read_inputs

        if not (run / "model" / "config.json").is_file():
            return False
        config = TrainConfig.from_section(self.params.dataset(dataset).train, f"data.{dataset}.train", PRESETS)
        posts, pack = self.out(dataset, "posts.parquet"), self.pack(dataset)
        now, then = read_inputs(config, approach, seed, posts, pack), run_config(run)
        same = {name: then["inputs"].get(name) for name in now.digests} == now.digests
        return same and then["config"] == json.loads(now.config.model_dump_json()) and then["seed"] == seed

    def summary(self) -> list[dict[str, Any]]:
        """A row a scored run and split of params.yaml; `ceiling` is known for drawn datasets only."""
        rows = []
        for run, dataset in self._runs():
            if not (run / "metrics.json").is_file():
                continue
            ceilings = self.data(dataset) / "ceilings.json"
            best = json.loads(ceilings.read_text(encoding="utf-8")) if ceilings.is_file() else {}
            sees = "text" if run_config(run)["config"]["objects"] == "none" else "pictures"
            for split, scores in json.loads((run / "metrics.json").read_text(encoding="utf-8")).items():
                micro = {name: scores["strict"]["micro"][name] for name in ("precision", "recall", "f1")}
                rows.append({"run": run.name, "split": split, **micro, "ceiling": best.get(split, {}).get(sees)})
        return rows

    def pages(self) -> list[Path]:
        """Reports that can be opened."""
        return [run / "report.html" for run, _ in self._runs() if (run / "report.html").is_file()]

    def _runs(self) -> list[tuple[Path, str]]:
        named = self.params
        return [
            (self.run(dataset, approach, seed), dataset)
            for dataset in named.train_on
            for approach in named.approaches
            for seed in named.seeds
        ]


def allowing(section: Mapping[str, Any], allow_toy: bool) -> dict[str, Any]:
    """A section of params with what the command line allows beyond it."""
    return {**section, "allow_toy": True} if allow_toy else dict(section)


def run_config(run: Path) -> dict[str, Any]:
    """config.json of a run's folder; raises RunError where there is none."""
    from schema.errors import RunError

    path = run / "model" / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        raise RunError("no trained run", where=str(run), todo="train it, or pull it (dvc pull)") from None
