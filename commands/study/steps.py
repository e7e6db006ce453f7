"""The steps of a study: prepare, train, score, cross, measure. Each does only what is not there for today's inputs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.study.study import RANDOM_BOXES, Study, Unit
from schema.errors import FmitError, RunError

if TYPE_CHECKING:
    from pipeline.engine import Tally


Say = Callable[[str], None]
Failed = dict[tuple[str, str], FmitError]  # why an approach has no figures on a dataset


def prepare(study: Study, dataset: str, say: Say) -> None:
    """Posts to packs, with the grid, and once more with random boxes. Rows come from the project's store."""
    from pipeline.engine import silent

    if dataset in study.home.params.draw and not study.data(dataset).is_dir():
        say(study.home.draw(dataset, silent).line(dataset))
    say(study.ingest(dataset, silent).line(dataset))
    if study.params.dataset(dataset).pack:
        say(f"{dataset}: features were imported, so there are none of random boxes, and a grid only if it came along")
        return
    for stage in (study.phrases, study.ground, study.regions):
        say(stage(dataset, silent).line(dataset))
    say(prepare_random(study, dataset).line(f"{dataset}, random boxes"))


def prepare_random(study: Study, dataset: str) -> Tally:
    """The pack of the control: the same phrases, each with a box drawn at random."""
    boxes = study.out(dataset, RANDOM_BOXES) / "boxes.parquet"
    tally = boxes_of(study, dataset, study.out(dataset, "phrases.parquet"), boxes, at_random=True)
    return tally + pack_of(study, dataset, boxes, study.variant(dataset, RANDOM_BOXES))


def boxes_of(study: Study, dataset: str, phrases: Path, out: Path, *, at_random: bool = False) -> Tally:
    """boxes.parquet of these phrases, by the dataset's grounder or drawn at random."""
    from pipeline.grounding import stage as grounding_stage
    from pipeline.grounding.config import PRESETS, GroundConfig

    section = study.params.dataset(dataset).ground
    if at_random:
        section = {**section, "grounder": "random", "weights": "", "digest": "", "revision": ""}
    config = GroundConfig.from_section(section, f"data.{dataset}.ground", PRESETS)
    return grounding_stage.run(
        config, study.out(dataset, "posts.parquet"), phrases, study.images(dataset), out, study.store
    )


def pack_of(study: Study, dataset: str, boxes: Path, out: Path) -> Tally:
    """A pack of other boxes, without a grid."""
    from pipeline.regions import stage as regions_stage
    from pipeline.regions.config import PRESETS, RegionsConfig

    section = {**study.params.dataset(dataset).regions, "grid": False}
    config = RegionsConfig.from_section(section, f"data.{dataset}.regions", PRESETS)
    posts, phrases = study.out(dataset, "posts.parquet"), study.out(dataset, "phrases.parquet")
    return regions_stage.run(config, posts, boxes, study.images(dataset), out, study.store, phrases=phrases)


def train(
    study: Study, unit: Unit, say: Say, device: str = "auto", *, folder: Path | None = None, pack: Path | None = None
) -> bool:
    """Train a run that is not fresh; an interrupted training goes on. Returns whether it trained.

    `folder` and `pack`: other ones than the unit's own.
    """
    if study.fresh(unit, folder, pack):
        return False
    run, features = folder or study.run(*unit), pack or study.pack_for(unit.dataset, unit.approach)
    for result in study.train(*unit, pack=features, out=run, device=device):
        scores = f"loss {result.train_loss:.3f} dev F1 {result.dev_f1:.4f}"
        say(f"{run.relative_to(study.root)}: epoch {result.epoch} {scores}")
    forget_scores(run)
    return True


def forget_scores(run: Path) -> None:
    """Remove scores of other weights than the run's: tables would show them as its own until it is scored again."""
    from model.evaluate import weights_digest

    now = weights_digest(run)
    if any(read_or_none(path, "weights") != now for path in (run / "scores").glob("metrics-*.json")):
        shutil.rmtree(run / "scores")


def read_or_none(path: Path, *names: str) -> Any:
    """A JSON file of a run, or what it has under `names`; None where it is missing, damaged or of another kind."""
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
        for name in names:
            value = value[name]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value


def score(
    study: Study, unit: Unit, on: str, device: str = "auto", *, folder: Path | None = None, pack: Path | None = None
) -> bool:
    """Score a run on a dataset's splits, unless these weights were on this pack; returns whether it did."""
    from model import evaluate
    from report.field import scored_in

    run, pack = folder or study.run(*unit), pack or study.pack_for(on, unit.approach)
    out = scored_in(run, unit.dataset, on)
    splits = labelled(study, on)
    stamp = {"pack": study.digests(on, study.config(on, unit.approach), pack).get("pack", "")}
    if is_scored(study, run, out, on, splits, stamp):
        return False
    evaluate.run(run, study.out(on, "posts.parquet"), pack, splits, out, images=study.images(on), device=device)
    (out / "features.json").write_text(json.dumps(stamp) + "\n", encoding="utf-8")
    return True


def labelled(study: Study, dataset: str) -> list[str]:
    """The asked splits that the dataset has labels for."""
    from cache.tables import read_posts

    posts = read_posts(study.out(dataset, "posts.parquet")).posts
    there = {post.split for post in posts if post.tags is not None}
    return [name for name in study.asked.splits if name in there]


def is_scored(study: Study, run: Path, out: Path, on: str, splits: Sequence[str], stamp: dict[str, str]) -> bool:
    """Whether metrics of all splits are there, of the run's weights, the dataset's posts and this pack."""
    from cache import keys
    from model.evaluate import weights_digest

    if read_or_none(out / "features.json") != stamp:
        return False
    wanted = {"weights": weights_digest(run), "posts": keys.digest_file(study.out(on, "posts.parquet"))}
    scores = out / "scores"
    return all(
        read_or_none(scores / f"metrics-{name}.json", field) == value
        and (scores / f"predictions-{name}.jsonl").is_file()
        for name in splits
        for field, value in wanted.items()
    )


def train_all(study: Study, units: Sequence[Unit], among: Sequence[str], say: Say, device: str = "auto") -> Failed:
    """Train and score units, seed by seed; what fails is told and left out, and the others go on.

    A unit that is another one's twin (`Study.twin`) is not trained twice.
    """
    failed: Failed = {}
    n_trained = n_scored = n_left = 0
    for unit in sorted(units, key=lambda one: study.asked.seeds.index(one.seed)):
        beside = [name for name in among if unit._replace(approach=name) in units]
        if study.twin(unit, beside) != unit:
            continue
        with telling(failed, (unit.dataset, unit.approach), f"not run: {study.run(*unit).name}", say) as left:
            n_trained += train(study, unit, say, device)
            n_scored += score(study, unit, unit.dataset, device)
        n_left += bool(left)
    say(f"{n_trained} runs trained, {n_scored} scored, {n_left} left out")
    return failed


@contextmanager
def telling(failed: Failed, whose: tuple[str, str], what: str, say: Say) -> Iterator[list[FmitError]]:
    """Keep and tell an error of the block instead of raising it; yields a list that then holds it."""
    from torch import OutOfMemoryError

    left: list[FmitError] = []
    try:
        yield left
    except FmitError as error:
        left.append(error)
    except OutOfMemoryError as error:
        found, todo = str(error).split("\n", 1)[0], "lower batch and max_cells in the dataset's train section"
        left.append(RunError("the device has too little memory", found=found, todo=todo))
    for one in left:
        failed.setdefault(whose, one)
        say(f"{what}: {one}")


def cross_all(
    study: Study, approaches: Sequence[str], say: Say, device: str = "auto", failed: Failed | None = None
) -> int:
    """Score the approaches' runs on the other dataset of each crossing; returns how many were scored now.

    What cannot be scored is told and added to `failed`; the others go on.
    """
    n_scored = 0
    (study.root / "crossed").mkdir(exist_ok=True)  # an out of the DVC stage, however few crossings there are
    failed = {} if failed is None else failed
    for crossing in study.asked.crossings:
        for approach in approaches:
            for seed in study.asked.seeds:
                what = f"not scored on {crossing.score}: {crossing.train}-{approach}-{seed}"
                with telling(failed, (crossing.train, approach), what, say):
                    unit = study.found(Unit(crossing.train, approach, seed), study.asked.approaches)
                    n_scored += unit is not None and score(study, unit, crossing.score, device)
    say(f"{n_scored} runs scored on the other dataset of {len(study.asked.crossings)} crossing(s)")
    return n_scored


def measure(out: Path, say: Say, *options: str) -> None:
    """Table 3's figures by `python -m bench.fusion`, unless they are there; they are of the machine that took them."""
    if out.is_file():
        return
    root = Path(__file__).resolve().parent.parent.parent
    command = [sys.executable, "-m", "bench.fusion", "--out", str(out.resolve()), *options]
    if not (root / "bench" / "fusion.py").is_file():
        say("Table 3 is measured by bench/fusion.py, which only a checkout of the repository has")
        return
    say("measuring the interaction parts")
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError("bench.fusion failed", found=done.stderr.strip()[-400:], todo=f"run {' '.join(command[1:])}")
