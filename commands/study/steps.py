"""The steps of a study: prepare, train, score, cross, measure. Each does only what is not there for today's inputs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from commands.study.study import RANDOM_BOXES, Study, Unit
from schema.errors import PackError, RunError

if TYPE_CHECKING:
    from pipeline.engine import Tally

Say = Callable[[str], None]


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
    from pipeline.grounding.config import PRESETS, GroundConfig
    from pipeline.stages import ground

    section = study.params.dataset(dataset).ground
    if at_random:
        section = {**section, "grounder": "random", "weights": "", "digest": "", "revision": ""}
    config = GroundConfig.from_section(section, f"data.{dataset}.ground", PRESETS)
    return ground.run(config, study.out(dataset, "posts.parquet"), phrases, study.images(dataset), out, study.store)


def pack_of(study: Study, dataset: str, boxes: Path, out: Path) -> Tally:
    """A pack of other boxes, without a grid."""
    from pipeline.regions.config import PRESETS, RegionsConfig
    from pipeline.stages import regions

    section = {**study.params.dataset(dataset).regions, "grid": False}
    config = RegionsConfig.from_section(section, f"data.{dataset}.regions", PRESETS)
    posts, phrases = study.out(dataset, "posts.parquet"), study.out(dataset, "phrases.parquet")
    return regions.run(config, posts, boxes, study.images(dataset), out, study.store, phrases=phrases)


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
    return True


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

    try:
        found = [json.loads((out / "scores" / f"metrics-{name}.json").read_text(encoding="utf-8")) for name in splits]
        if json.loads((out / "features.json").read_text(encoding="utf-8")) != stamp:
            return False
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    wanted = {"weights": weights_digest(run), "posts": keys.digest_file(study.out(on, "posts.parquet"))}
    return all({name: one.get(name) for name in wanted} == wanted for one in found)


def train_all(
    study: Study, units: Sequence[Unit], among: Sequence[str], say: Say, device: str = "auto"
) -> dict[tuple[str, str], str]:
    """Train and score units, seed by seed; returns why some could not be, by dataset and approach.

    A unit that is another one's twin (`Study.twin`) is not trained twice.
    """
    failed: dict[tuple[str, str], str] = {}
    n_trained = n_scored = 0
    for unit in sorted(units, key=lambda one: study.asked.seeds.index(one.seed)):
        beside = [name for name in among if unit._replace(approach=name) in units]
        if study.twin(unit, beside) != unit:
            continue
        try:
            n_trained += train(study, unit, say, device)
            n_scored += score(study, unit, unit.dataset, device)
        except PackError as error:  # features that this approach reads are not there: its rows say so
            failed[unit.dataset, unit.approach] = str(error)
            say(f"not run: {study.run(*unit).name}: {error}")
    say(f"{n_trained} runs trained, {n_scored} scored, {len(failed)} left out")
    return failed


def cross_all(study: Study, approaches: Sequence[str], say: Say, device: str = "auto") -> int:
    """Score the approaches' runs on the other dataset of each crossing; returns how many were scored now."""
    n_scored = 0
    (study.root / "crossed").mkdir(exist_ok=True)  # an out of the DVC stage, however few crossings there are
    for crossing in study.asked.crossings:
        for approach in approaches:
            for seed in study.asked.seeds:
                unit = study.found(Unit(crossing.train, approach, seed), study.asked.approaches)
                if unit is not None:
                    n_scored += score(study, unit, crossing.score, device)
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
