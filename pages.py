"""What people open of a project: the report of a run, a post, a contact sheet, a summary of the runs."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.run_files import read_object, run_config
from project import Project
from schema.errors import RunError

if TYPE_CHECKING:
    from cache.tables import Posts
    from report.show import Shown
    from report.thumbnails import Loader


def report(
    project: Project, run: Path, out: Path | None = None, *, dataset: str | None = None, redact: bool = False
) -> Path:
    """Write a run's page; returns where it is."""
    from report import html

    run_config(run)  # a folder that is no run's is said first
    page = out or run / "report.html"
    load_image = loader(project.images(dataset or project.dataset_of(run)))
    html.write(run, page, load_image=load_image, redact=redact or project.params.report.redact)
    return page


def shown(project: Project, dataset: str, post_id: str) -> Shown:
    """A post with what the stages so far made of it; raises DataError for an id that the dataset lacks."""
    from cache import tables
    from cache.packs import Pack
    from pipeline.phrases import normalize
    from report.show import Shown
    from schema.errors import DataError

    table = _posts(project, dataset)
    post = next((one for one in table.posts if one.id == post_id), None)
    if post is None:
        ids = [one.id for one in table.posts]
        near = difflib.get_close_matches(post_id, ids, n=3) or ids[:3]
        todo = f"ids are such as {', '.join(near)}"
        raise DataError(f"no post {post_id!r}", where=f"dataset {dataset}", todo=todo)
    phrases, boxes = (project.out(dataset, name) for name in ("phrases.parquet", "boxes.parquet"))
    opened = Pack.open(project.pack(dataset)) if project.pack(dataset).is_dir() else None
    parsed = tables.read_phrases(phrases)[0] if phrases.is_file() else []
    grounded = tables.read_boxes(boxes)[0] if boxes.is_file() else []
    return Shown(
        post,
        table.labels,
        tuple(tuple(zip(one.words, one.index, strict=True)) for one in normalize.sentences(post.words)),
        next((one for one in parsed if one.post_id == post_id), None),
        tuple(one for one in grounded if one.post_id == post_id),
        opened.read(post_id).regions if opened and post_id in opened else (),
        bool(opened and opened.meta.synthetic),
        project.train_config(dataset).max_objects,
    )


def sheet(project: Project, dataset: str, out: Path, *, n_posts: int, redact: bool = False) -> None:
    """Write a contact sheet of a dataset's boxes."""
    from cache import tables
    from report import sheet

    table = _posts(project, dataset)
    boxes, meta = tables.read_boxes(project.out(dataset, "boxes.parquet"))
    sheet.write_html(
        table.posts,
        boxes,
        table.labels,
        out,
        title=dataset,
        load_image=loader(project.images(dataset)),
        synthetic=bool(meta.get("ground", {}).get("synthetic")),
        redact=redact,
        n=n_posts,
    )


def _posts(project: Project, dataset: str) -> Posts:
    from cache import tables

    path = project.out(dataset, "posts.parquet")
    if not path.is_file():
        project.params.dataset(dataset)  # a name that no dataset has is said first
    return tables.read_posts(path)


def loader(folder: Path) -> Loader:
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


def summary(project: Project) -> list[dict[str, Any]]:
    """A row a scored run and split of params.yaml; `ceiling` is known for drawn datasets only.

    Raises RunError for scores or a configuration that cannot be read.
    """
    again = "score the run again (fmit evaluate)"
    rows = []
    for run, dataset in project.runs():
        if not (run / "metrics.json").is_file():
            continue
        ceilings = project.data(dataset) / "ceilings.json"
        best = read_object(ceilings, f"draw it again (fmit draw {dataset})") if ceilings.is_file() else {}
        sees = "text" if run_config(run)["config"].get("objects") == "none" else "pictures"
        for split, scores in read_object(run / "metrics.json", again).items():
            try:
                micro = {name: float(scores[name]) for name in ("precision", "recall", "f1")}
            except (KeyError, TypeError, ValueError) as error:
                found = f"{split}: {type(error).__name__} {error}"
                raise RunError("no scores", where=str(run / "metrics.json"), found=found, todo=again) from None
            rows.append({"run": run.name, "split": split, **micro, "ceiling": best.get(split, {}).get(sees)})
    return rows


def reports(project: Project) -> list[Path]:
    """Reports that can be opened."""
    return [run / "report.html" for run, _ in project.runs() if (run / "report.html").is_file()]
