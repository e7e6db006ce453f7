"""Pages and tables of a project: reports of runs, single posts, contact sheets, the paper's tables, a summary."""

import difflib
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from cache import tables as parquet
from cache.keys import digest_file
from cache.packs import Pack
from cache.run_files import read_object, refuse_strange, refuse_unwritable, run_config
from pipeline.phrases import normalize
from project import Project
from report import html
from report.grounding import Corners, GoldBoxes, ceiling, centre_box, evaluate, match, read_gold, score
from report.pages import Loader
from report.posts import write_sheet
from report.results import published, read_fusion
from report.runs import RANDOM_BOXES, Key, RunSet, find_scores, read_run
from report.show import PostDetails
from report.tables_page import WRITTEN, Section, build, publish
from schema import records
from schema.errors import DataError, ImageError, RunError
from schema.prediction import Prediction
from synthetic import draw
from vision import images

RANDOM = "random"  # the grounder of the control


def report(
    project: Project, run: Path, out: Path | None = None, dataset: str | None = None, redact: bool = False
) -> Path:
    """Write the page of a run; returns its path."""
    run_config(run)  # raises RunError if the folder is not a run
    page, redact = out or run / "report.html", redact or project.params.report.redact
    html.write(run, page, load_image=loader(project.images(dataset or project.dataset_of(run))), redact=redact)
    return page


def post_details(project: Project, dataset: str, post_id: str) -> PostDetails:
    """A post with the outputs of the stages that have run; raises DataError if the dataset has no such post."""
    table = project.posts(dataset)
    post = next((post for post in table.posts if post.id == post_id), None)
    if post is None:
        ids = [post.id for post in table.posts]
        similar = difflib.get_close_matches(post_id, ids, n=3) or ids[:3]
        raise DataError(
            f"no post {post_id!r}", where=f"dataset {dataset}", todo=f"use an id such as {', '.join(similar)}"
        )
    pack = Pack(project.pack(dataset)) if project.pack(dataset).is_dir() else None
    return PostDetails(
        post,
        table.labels,
        tuple(tuple(zip(sentence.words, sentence.index, strict=True)) for sentence in normalize.sentences(post.words)),
        next((parse for parse in project.parses(dataset) if parse.post_id == post_id), None),
        tuple(project.boxes(dataset).get(post_id, ())),
        pack.read(post_id).regions if pack and post_id in pack else (),
        bool(pack and pack.meta.synthetic),
        project.train_config(dataset).max_objects,
    )


def sheet(project: Project, dataset: str, out: Path, *, n: int, redact: bool = False) -> None:
    """Write a contact sheet of the boxes of a dataset's first `n` posts."""
    table, load = project.posts(dataset), loader(project.images(dataset))
    boxes, meta = parquet.read_boxes(project.out(dataset, "boxes.parquet"))
    more: dict[str, Any] = {"synthetic": bool(meta.get("ground", {}).get("synthetic")), "redact": redact, "n": n}
    write_sheet(table.posts, boxes, table.labels, out, title=dataset, load_image=load, **more)


def loader(folder: Path) -> Loader:
    """A function that decodes images for pages, with None for those that are missing or have changed since ingest."""

    def load(name: str, digest: str) -> Any:
        with suppress(ImageError):  # the page counts images that it does not show
            return images.load(folder, records.Image(name, digest))

    return load


def tables(
    project: Project, out: Path | None = None, *, fusion: Path | None = None, redact: bool = False
) -> tuple[list[Section], list[Path]]:
    """Write the paper's tables and figures with the results of the project's runs; returns them and the files to open.

    Trains nothing. `out` defaults to `tables` in the project, `fusion` (results of bench.fusion) to `fusion.json`.
    Raises RunError, before anything is read, if `out` cannot be replaced.
    """
    folder = out or project.root / "tables"
    refuse_unwritable(folder)
    refuse_strange(folder, WRITTEN)
    runs = run_set(project)
    synthetic = [name for name in runs.posts if (project.data(name) / draw.GOLD_FILE).is_file()]
    loaders = {name: loader(project.images(name)) for name in runs.posts}
    boxes = {name: functools.partial(synthetic_boxes, folder=project.data(name)) for name in synthetic}
    speeds, redact = read_fusion(fusion or project.root / "fusion.json"), redact or project.params.report.redact
    sections = build(runs, published(), loaders, boxes, speeds, redact=redact)
    return sections, publish(sections, published(), folder)


def run_set(project: Project) -> RunSet:
    """The runs in `runs/` that belong to rows of the tables, by their configurations and not by their names.

    A run belongs to a row if the current settings of the row's approach would train the same run; so a run of `fmit`
    with three layers is also the row `fmit-l3`. A run of `fmit` on a dataset with the grounder `random` is the control
    of the dataset that has the same posts and a different grounder.
    """
    rows = published().approaches("table2", "table4", "table5")
    posts = {name: project.out(name, "posts.parquet") for name in (*project.params.train_on, *project.params.datasets)}
    digests = {name: digest_file(path) for name, path in posts.items() if path.is_file()}
    random = {name for name in digests if project.ground_config(name).grounder == RANDOM}
    others = {digest for name, digest in digests.items() if name not in random}
    shown = {name: digest for name, digest in digests.items() if name not in random or digest not in others}
    folders = sorted(path.parent.parent for path in (project.root / "runs").glob("*/model/config.json"))
    configs = {folder: run_config(folder) for folder in folders}
    scores = {folder: find_scores(folder, shown) for folder in folders}
    runs: dict[Key, Mapping[str, Path]] = {}
    missing: dict[tuple[str, str], str] = {}
    for dataset, digest in shown.items():
        control = next((name for name in digests if name in random - {dataset} and digests[name] == digest), None)
        same_posts = {folder: config for folder, config in configs.items() if config["inputs"].get("posts") == digest}
        for row in rows:
            trained_on, approach = (control, "fmit") if row == RANDOM_BOXES else (dataset, row)
            if trained_on is None:
                missing[dataset, row] = "no dataset with the same posts and `ground: {grounder: random}`"
                continue
            matches, reason = _matches(project, approach, trained_on, same_posts, trained_on in random)
            runs |= {(dataset, row, seed): scores[folder] for seed, folder in matches.items()}
            missing |= {(dataset, row): reason} if reason else {}
    notes = {name: tuple(_notes(project, name, configs, digest)) for name, digest in shown.items()}
    return RunSet({name: posts[name] for name in shown}, runs, tuple(rows), missing, notes)


def _matches(
    project: Project, approach: str, dataset: str, configs: Mapping[Path, Mapping[str, Any]], is_random: bool
) -> tuple[dict[int, Path], str]:
    """Those of `configs` that are runs of an approach on a dataset, by seed, and why runs are missing."""
    from model.approaches import APPROACHES

    settings = json.loads(project.config(dataset, approach).model_dump_json())
    matches: dict[int, Path] = {}
    outdated = ""
    for folder, config in sorted(configs.items(), key=lambda item: (item[1].get("approach") != approach, item[0])):
        trained = APPROACHES.get(config.get("approach", ""))
        provenance = (config.get("pack") or {}).get("provenance", {})
        grounder = provenance.get("ground", {}).get("config", {}).get("grounder", "")
        if trained is None or trained.build is not APPROACHES[approach].build:
            continue
        if grounder and (grounder == RANDOM) != is_random:  # the same posts with the boxes of another grounder
            continue
        if config["config"] == settings and project.is_up_to_date(folder, dataset, approach, config["seed"]):
            matches.setdefault(config["seed"], folder)
        elif config["approach"] == approach:
            outdated = f"{folder.name} was trained with other settings or features: run `dvc repro`"
    return matches, outdated


def _notes(project: Project, dataset: str, configs: Mapping[Path, Mapping[str, Any]], digest: str) -> Iterator[str]:
    """Notes below a dataset's tables."""
    if trained := [config for config in configs.values() if config["inputs"].get("posts") == digest]:
        yield f"Trained on {trained[0].get('n_posts', {}).get('train', 0)} posts."
    best = _ceilings(project, dataset)
    if split := next((name for name in ("test", "dev") if name in best), None):
        text, both = (100 * best[split][name] for name in ("text", "images"))
        best_f1 = f"{text:.2f} from text only and {both:.2f} with images"
        yield f"Synthetic posts: the ceiling (the highest F1 that can be expected) on {split} is {best_f1}."


def _ceilings(project: Project, dataset: str) -> dict[str, Any]:
    """The ceilings (highest F1 that can be expected) by split; empty if the dataset is not synthetic."""
    path = project.data(dataset) / "ceilings.json"
    return read_object(path, f"draw it again (fmit draw {dataset})") if path.is_file() else {}


def synthetic_boxes(lines: Sequence[Prediction], folder: Path) -> GoldBoxes:
    """Gold boxes of gold entities in a synthetic dataset; raises DataError if its `folder` has none of the posts."""
    posts = draw.read_gold(folder)
    if not any(line.post.id in posts for line in lines):
        what, todo = "no gold boxes of these posts", "give the folder of the dataset that the run was scored on"
        raise DataError(what, where=str(folder / draw.GOLD_FILE), found=f"{len(posts)} other posts", todo=todo)
    names = {post_id: post.names for post_id, post in posts.items() if post.image == "ok"}
    return {
        (line.post.id, entity): tuple(name.box.xyxy for name in names.get(line.post.id, ()) if name.span == entity.span)
        for line in lines
        for entity in line.gold or ()
    }


def summary(project: Project) -> list[dict[str, Any]]:
    """A row per scored run and split, then means over seeds; only synthetic datasets have a `ceiling`."""
    again = "score the run again (fmit evaluate)"
    rows = []
    for run, dataset in project.runs():
        if not (run / "metrics.json").is_file():
            continue
        ceilings = _ceilings(project, dataset)
        page = run / "report.html" if (run / "report.html").is_file() else None
        sees = "text" if run_config(run)["config"].get("objects") == "none" else "images"
        for split, scores in read_object(run / "metrics.json", again).items():
            try:
                micro = {name: float(scores[name]) for name in ("precision", "recall", "f1")}
            except (KeyError, TypeError, ValueError) as error:
                found = f"{split}: {type(error).__name__} {error}"
                raise RunError("no scores", where=str(run / "metrics.json"), found=found, todo=again) from None
            ceiling = ceilings.get(split, {}).get(sees)
            rows.append({"run": run.name, "split": split, **micro, "ceiling": ceiling, "report": page})
    return [*rows, *_means(rows)]


def _means(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["run"].rpartition("-")[0], row["split"]), []).append(row)
    for (name, split), members in groups.items():
        if len(members) > 1:
            micro = {key: fmean(row[key] for row in members) for key in ("precision", "recall", "f1")}
            run = f"{name}: mean of {len(members)} seeds"
            yield {"run": run, "split": split, **micro, "ceiling": members[0]["ceiling"], "report": None}


def run_grounding(run: Path, gold: Path, split: str | None = None, min_score: float | None = None) -> dict[str, Any]:
    """Scores of a run's entities with their boxes; `gold` is a folder of XML files or of a synthetic dataset.

    `split` defaults to the first that was scored. Boxes with a lower grounder score than `min_score` are ignored. In
    the result, `remark` describes the files of gold boxes.
    """
    results = read_run(run)
    name = split or next(iter(results.predictions), "")
    if name not in results.predictions:
        splits = ", ".join(results.predictions)
        raise RunError(f"not scored on {name}", where=str(run), found=splits, todo="fmit evaluate")
    labelled = [prediction for prediction in results.predictions[name] if prediction.gold is not None]
    remark = ""
    if (gold / draw.GOLD_FILE).is_file():
        boxes = synthetic_boxes(labelled, gold)
    else:
        matched = match(labelled, gold)
        notes = {"names match no entity": matched.n_unmatched, "objects without a name": matched.n_nameless}
        notes["files with a different image size, scaled"] = matched.n_scaled
        boxes = matched.boxes
        remark = f" in {matched.n_files} files" + "".join(f"; {n} {what}" for what, n in notes.items() if n)
    return {
        "split": name,
        "synthetic": results.synthetic,
        "scores": {kind: counts.to_json() for kind, counts in score(labelled, boxes, min_score).items()},
        "n_gold": len(boxes),
        "n_with_box": sum(bool(corners) for corners in boxes.values()),
        "remark": remark,
    }


def phrase_grounding(gold: Path, folder: Path, section: Mapping[str, Any]) -> dict[str, Any]:
    """Quality of the grounder of a `ground` section on gold phrases, and of boxes that ignore the image.

    `folder` has the images. `ceiling` is the accuracy if the best of a detector's boxes were always chosen; None for
    other grounders.
    """
    from pipeline.grounding.config import GroundConfig
    from pipeline.grounding.controls import RandomBox, WholeImage
    from pipeline.grounding.detector import DetectorGrounder
    from pipeline.grounding.grounder import Grounder, ground_images
    from pipeline.grounding.registry import build_grounder

    def ground(grounder: Grounder) -> list[tuple[Corners, float]]:  # a box and a score for each phrase, in order
        grounded = {name: iter(ground_images(grounder, [decoded[name]], [texts[name]])[0]) for name in names}
        return [(box.xyxy, box.score) for box in (next(grounded[phrase.image]) for phrase in phrases)]

    if not folder.is_dir():
        raise DataError("the image folder does not exist", where=str(folder), todo="give it with --images")
    records = {path.name: images.probe(folder, path.name) for path in sorted(folder.iterdir()) if path.is_file()}
    phrases = read_gold(gold, {name: (record.width, record.height) for name, record in records.items() if record.ok})
    names = dict.fromkeys(phrase.image for phrase in phrases)
    texts = {name: [phrase.text for phrase in phrases if phrase.image == name] for name in names}
    decoded = {name: images.load(folder, records[name]) for name in names}
    grounder = build_grounder(GroundConfig.from_section(section, "ground", {}))
    boxes = {
        section["grounder"]: ground(grounder),
        "whole image": ground(WholeImage()),
        "centre box": [(centre_box(*decoded[phrase.image].size), 0.0) for phrase in phrases],
        "random boxes": ground(RandomBox()),
    }
    best = None
    if isinstance(grounder, DetectorGrounder):
        best = ceiling(phrases, {name: grounder.candidates(image) for name, image in decoded.items()})
    return {
        "n_phrases": len(phrases),
        "n_visible": sum(bool(phrase.boxes) for phrase in phrases),
        "n_images": len(decoded),
        "scores": {name: asdict(evaluate(phrases, grounded)) for name, grounded in boxes.items()},
        "ceiling": best,
    }
