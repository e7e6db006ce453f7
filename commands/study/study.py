"""The study behind the tables: a project's datasets, trained by every approach into a folder of its own.

The study prepares its own outs (posts to packs, the grid and random boxes included) through the project's store, so a
row is computed once for both and the project's own outs are left alone. A run is trained where there is none for
today's settings, posts and pack; one that was broken off goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, ValidationInfo, field_validator
from pydantic import Field as Limits

from project import Project
from schema.config import Config
from schema.errors import ConfigError
from schema.params import EvaluatedSplit, Name, Params, Section, Seed, read_values

if TYPE_CHECKING:
    from model.config import TrainConfig
    from report.field import Field


RANDOM_BOXES = "random-boxes"
T = TypeVar("T")


def _once(values: tuple[T, ...]) -> tuple[T, ...]:
    twice = [one for one in dict.fromkeys(values) if values.count(one) > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} stands there twice")
    return values


Some = Annotated[tuple[T, ...], Limits(min_length=1), AfterValidator(_once)]  # each once, and one at least


class Crossing(Config):
    """A pair of Table 4."""

    train: Name
    score: Name


class StudyParams(Config):
    """tables/params.yaml: what the tables hold. Datasets, and how each is prepared and trained, are the project's."""

    project: str = "../params.yaml"  # from this file's folder
    datasets: Some[Name]
    approaches: Some[Name]
    seeds: Some[Seed]
    splits: Some[EvaluatedSplit] = ("dev", "test")  # scored, where a dataset has them
    crossings: tuple[Crossing, ...] = ()
    train: dict[Name, Section] = Limits(default_factory=dict)  # by dataset: keys beside those of its train section
    n_cases: int = Limits(default=8, ge=0)  # posts of Figure 3
    tiny: bool = False  # the figures prove that they can be made, and are marked so

    @field_validator("splits")
    @classmethod
    def _shown(cls, splits: tuple[str, ...]) -> tuple[str, ...]:
        if not {"dev", "test"} & {*splits}:
            raise ValueError(f"tables show test or dev, not {', '.join(splits)}")
        return splits

    @field_validator("crossings")
    @classmethod
    def _crossed(cls, crossings: tuple[Crossing, ...], info: ValidationInfo) -> tuple[Crossing, ...]:
        for one in crossings:
            if one.train == one.score or not {one.train, one.score} <= {*info.data.get("datasets", ())}:
                raise ValueError(f"two of datasets make a crossing, not {one.train} and {one.score}")
        return crossings

    @field_validator("train")
    @classmethod
    def _trained(cls, train: dict[str, Section], info: ValidationInfo) -> dict[str, Section]:
        if strange := [name for name in train if name not in info.data.get("datasets", ())]:
            raise ValueError(f"{strange[0]!r} is not among datasets")
        return train


class Unit(NamedTuple):
    """One training."""

    dataset: str
    approach: str
    seed: int


def pick(what: str, given: Sequence[Any], known: Sequence[Any]) -> list[Any]:
    """`given`, each of them known; raises ConfigError naming those there are."""
    strange = [one for one in given if one not in known]
    if strange:
        found, todo = ", ".join(map(str, known)), f"add {strange[0]} to {what} of the tables' params"
        raise ConfigError(f"{strange[0]} is not among the tables' {what}", found=found, todo=todo)
    return list(dict.fromkeys(given))


def check_train(home: Project, asked: StudyParams, file: str) -> None:
    """Raise ConfigError, naming the tables' file, for keys of its `train` that are none or do not fit the dataset's."""
    from model.config import PRESETS, TrainConfig

    for name, section in asked.train.items():
        named = section.get("preset", home.params.dataset(name).train.get("preset"))
        if "preset" in section and (not isinstance(named, str) or named not in PRESETS):
            where, todo = f"{file} train.{name}", f"use one of {', '.join(sorted(PRESETS))}"
            raise ConfigError(f"unknown preset {named!r}", where=where, todo=todo)
        base = {**home.params.dataset(name).train, **({"preset": named} if named else {})}
        own = TrainConfig.from_section(base, f"data.{name}.train", PRESETS)
        keys = {key: value for key, value in section.items() if key != "preset"}
        TrainConfig.checked({**own.model_dump(), **keys}, f"train.{name}", file=file)


@dataclass(frozen=True)
class Study(Project):
    """A project whose datasets are another's (`home`): outs and runs lie in `root`, raw data and store at home."""

    home: Project
    asked: StudyParams
    _digests: dict[tuple[str, str, str], dict[str, str]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def read(cls, path: Path) -> Study:
        """The study of a params file; raises ConfigError."""
        from model.approaches import approach

        asked = StudyParams.checked(read_values(path), "", file=str(path))
        root = path.resolve().parent
        home = Project.open(root / asked.project)
        for name in asked.approaches:
            approach(name)  # known, before hours of preparation
        for name in asked.datasets:
            if name not in home.params.data:
                todo = f"take it out of {path}, or add its block there"
                raise ConfigError(f"no dataset {name!r} in {asked.project}", where=f"{path} datasets", todo=todo)
        check_train(home, asked, str(path))
        return cls.over(home, root, asked)

    @classmethod
    def over(cls, home: Project, root: Path, asked: StudyParams) -> Study:
        """A study of a project's datasets in the folder `root`."""
        blocks = {}
        for name in asked.datasets:
            block = home.params.dataset(name)
            train = {**block.train, **asked.train.get(name, {})}
            pack = str(home.pack(name).resolve()) if block.pack else ""
            regions = {**block.regions, "grid": True}
            blocks[name] = block.model_copy(update={"train": train, "pack": pack, "regions": regions})
        params = Params(
            datasets=asked.datasets,
            train_on=asked.datasets,
            approaches=asked.approaches,
            seeds=asked.seeds,
            evaluate={"splits": asked.splits},  # type: ignore[arg-type]
            report=home.params.report,
            data=blocks,
        )
        return cls(root, params, home, asked)

    @property
    def store(self) -> Path:
        return self.home.store

    def data(self, dataset: str) -> Path:
        return self.home.data(dataset)

    def pack_for(self, dataset: str, approach: str) -> Path:
        """The pack that an approach reads: random boxes for the control of that name, else the dataset's."""
        from model.approaches import APPROACHES

        control = APPROACHES[approach].changes.get("control") if approach in APPROACHES else None
        return self.variant(dataset, RANDOM_BOXES) if control == RANDOM_BOXES else self.pack(dataset)

    def variant(self, dataset: str, name: str) -> Path:
        """A pack of the dataset's posts with other phrases or boxes."""
        return self.out(dataset, name) / "pack"

    def units(self) -> list[Unit]:
        """All trainings that the tables want."""
        asked = self.asked
        return [Unit(d, a, s) for d in asked.datasets for a in asked.approaches for s in asked.seeds]

    def twin(self, unit: Unit, among: Sequence[str]) -> Unit:
        """The first approach of `among` that is trained just as this one (FMIT with l = 3 where l is 3), or itself."""
        from model.approaches import approach as named

        mine = self.config(unit.dataset, unit.approach)
        for name in among:
            if named(name).build is named(unit.approach).build and self.config(unit.dataset, name) == mine:
                return unit._replace(approach=name)
        return unit

    def found(self, unit: Unit, among: Sequence[str]) -> Unit | None:
        """The unit, or else its twin, if its run is there and fresh; None where neither is."""
        return next((one for one in (unit, self.twin(unit, among)) if self.fresh(one)), None)

    def fresh(self, unit: Unit, folder: Path | None = None, pack: Path | None = None) -> bool:
        """`is_fresh` of the unit's run, or of one in another folder or of another pack."""
        return self.is_fresh(folder or self.run(*unit), *unit, pack=pack or self.pack_for(unit.dataset, unit.approach))

    def digests(self, dataset: str, config: TrainConfig, pack: Path) -> dict[str, str]:
        """Those of the project, computed once in a process."""
        place = (dataset, config.objects, str(pack))
        if place not in self._digests:
            self._digests[place] = super().digests(dataset, config, pack)
        return self._digests[place]

    def field(self, failed: Mapping[tuple[str, str], str] | None = None) -> Field:
        """The runs that are there and fresh, for the tables; `failed` says why some could not be."""
        from report.field import Field

        ready = [name for name in self.asked.datasets if self.out(name, "posts.parquet").is_file()]
        found = {unit: self.found(unit, self.asked.approaches) for unit in self.units() if unit.dataset in ready}
        missing = {(unit.dataset, unit.approach): "no fresh run" for unit, there in found.items() if there is None}
        return Field(
            {name: self.out(name, "posts.parquet") for name in ready},
            {(*unit,): self.run(*there) for unit, there in found.items() if there is not None},
            self.asked.approaches,
            self.asked.seeds,
            {**missing, **(failed or {})},
            tuple((one.train, one.score) for one in self.asked.crossings),
            {name: tuple(self.remarks(name)) for name in ready},
            self.asked.tiny,
            self.asked.splits,
        )

    def remarks(self, dataset: str) -> Iterator[str]:
        """What a reader of a dataset's tables must know."""
        ceilings = self.data(dataset) / "ceilings.json"
        best = json.loads(ceilings.read_text(encoding="utf-8")) if ceilings.is_file() else {}
        for split in [name for name in ("test", "dev") if name in best][:1]:
            text, both = (100 * best[split][name] for name in ("text", "pictures"))
            expected = f"{text:.2f} by text alone and {both:.2f} with pictures"
            yield f"Drawn posts: the highest F1 that can be expected on {split} is {expected}."

    def pictures(self, dataset: str) -> Any:
        """A loader of the dataset's pictures for pages."""
        import pages

        return pages.loader(self.images(dataset))
