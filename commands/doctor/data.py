"""Checks of a dataset before any stage runs: files, labels, pictures, and words that its encoder cannot read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cache import hub, keys
from commands.doctor.findings import Finding, note, ok, problem
from commands.doctor.labels import unknown_labels, variant
from commands.models.named import of_dataset
from commands.models.state import look
from pipeline.corpus import inputs
from pipeline.corpus.config import SourceConfig
from pipeline.corpus.reader import SUFFIXES, Gallery, Ids, count_posts, read_posts_file
from pipeline.corpus.statistics import STATES, Counts, count
from pipeline.engine import Progress
from project import Project
from schema.errors import ConfigError, FmitError, WeightsError
from schema.records import Post

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


N_NAMED = 5  # examples in one line
MAX_WORDS = 200_000  # distinct words that are looked up


@dataclass
class Seen:
    """What reading a dataset leaves behind: enough for every check, but no posts."""

    words: Counter[str] = field(default_factory=Counter)
    pictures: set[str] = field(default_factory=set)
    undrawn: str = ""  # a picture that can be seen and that the project did not draw

    def add(self, post: Post) -> Post:
        if len(self.words) < MAX_WORDS:
            self.words.update(post.words)
        for image in post.images:
            self.pictures.add(image.name)
            if image.ok and not image.synthetic:
                self.undrawn = self.undrawn or image.name
        return post


def dataset(project: Project, name: str, progress: Progress) -> Iterator[Finding]:
    """Every finding about one dataset; files are read once, pictures decoded once, nothing is kept."""
    topic = f"data {name}"
    try:
        config, folder = project.source(name), project.data(name)
        files = config.paths(folder)
    except ConfigError as error:
        if name in project.params.draw and not project.data(name).exists():
            yield note(topic, "not drawn yet", f"fmit draw {name} (dvc repro does it)")
        else:
            yield problem(topic, error.fact, error.todo or "mend params.yaml")
        return
    if paths := inputs.unwatched(project.root, name, folder, config):
        what = f"DVC does not see changes behind {', '.join(map(str, paths[:N_NAMED]))}"
        yield problem(topic, what, f"run `fmit ingest {name}`, which makes DVC watch them")
    seen, ids = Seen(), Ids()
    try:
        posts = (seen.add(post) for post in _read(config, files, folder, ids, progress))
        found = count(posts)
    except FmitError as error:
        yield problem(topic, error.fact, error.todo or "mend this line")
        yield from unknown_labels(topic, config, files)
        return
    told = variant(topic, {split: keys.digest_file(path) for split, path in files.items()}, folder.name)
    yield from (told,) if told else ()
    yield from _labels(project, name, topic, config, found, ids)
    yield from _pictures(topic, folder / config.images, found, seen)
    yield from _toys(project, name, topic, seen)
    yield from _words(project, name, topic, seen)


def _read(config: SourceConfig, files: dict, folder: Path, ids: Ids, progress: Progress) -> Iterator[Post]:
    gallery, done = Gallery(folder / config.images, config.image_suffix), 0
    total = sum(count_posts(path, config) for path in files.values())
    for split, path in files.items():
        for post in read_posts_file(path, config, split, gallery, ids):
            done += 1
            progress(done, max(total, done))
            yield post


def _labels(
    project: Project, name: str, topic: str, config: SourceConfig, found: Counts, ids: Ids
) -> Iterator[Finding]:
    sizes = ", ".join(f"{split} {one.n_posts}" for split, one in found.splits.items())
    yield ok(topic, f"{found.total('n_posts')} posts ({sizes}), {found.total('n_words')} words")
    if name in project.params.train_on:
        for split in ("train", "dev"):
            one = found.splits.get(split)
            if one is None or one.n_unlabelled == one.n_posts:
                todo = f"give it labelled {split} posts, or take it out of train_on"
                yield problem(topic, f"it is in train_on and has no labelled {split} posts", todo)
            elif one.n_unlabelled:
                yield note(
                    topic, f"{one.n_unlabelled} {split} post(s) without labels", "give labels, or leave them out"
                )
    entities = sum((one.entities for one in found.splits.values()), Counter())
    never = [kind for kind in config.label_set().types if not entities[kind]]
    if never and entities:
        yield note(
            topic, f"no entity of type {', '.join(never)}", "take the type out of source.labels if it never comes"
        )
    if found.total("n_orphans"):
        todo = "source.scheme: iob1, if the files are IOB1; strict scores count no entity for them"
        yield note(topic, f"{found.total('n_orphans')} orphan I- tag(s)", todo)
    if ids.n_repeated:
        yield note(
            topic, f"{ids.n_repeated} repeated id(s): they become id~2 and so on", "give each post an id of its own"
        )


def _pictures(topic: str, folder: Path, found: Counts, seen: Seen) -> Iterator[Finding]:
    yield ok(topic, "pictures: " + ", ".join(f"{found.images(state)} {state}" for state in STATES))
    todo = {
        "missing": f"put them into {folder}, or leave it: such a post has the empty picture",
        "broken": "fetch them again, or leave it: such a post has the empty picture",
        "refused": "convert them to JPEG or PNG of at most 50 megapixels",
    }
    for state, advice in todo.items():
        if found.images(state):
            yield note(topic, f"{found.images(state)} picture(s) {state}: {'; '.join(found.examples[state])}", advice)
    if warning := found.image_warning():
        yield problem(topic, warning, "see the reasons above; a dataset without images names none in its posts")
    unused = sorted(_files(folder) - seen.pictures)
    if unused:
        yield note(
            topic,
            f"{len(unused)} picture(s) that no post names: {', '.join(unused[:N_NAMED])}",
            "check the posts' image names",
        )


def _files(folder: Path) -> set[str]:
    """Pictures below a folder, by their name in it."""
    with suppress(OSError):
        return {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file()
        }
    return set()


def _toys(project: Project, name: str, topic: str, seen: Seen) -> Iterator[Finding]:
    """Parts trained on drawings refuse other pictures: better now than after an hour."""
    sections = project.params.dataset(name)
    if not seen.undrawn:
        return
    from pipeline.grounding.config import PRESETS as GROUND
    from pipeline.grounding.config import GroundConfig
    from pipeline.regions.config import PRESETS as REGIONS
    from pipeline.regions.config import RegionsConfig

    ground = GroundConfig.from_section(sections.ground, f"data.{name}.ground", GROUND)
    regions = RegionsConfig.from_section(sections.regions, f"data.{name}.regions", REGIONS)
    for part, section, allowed in (
        (ground.grounder, "ground", ground.allow_synthetic),
        (regions.net, "regions", regions.allow_synthetic),
    ):
        if part.startswith("toy-") and not allowed:
            yield problem(
                topic,
                f"{part} was trained on drawings and refuses {seen.undrawn}",
                f"name a real model in data.{name}.{section}, or allow_synthetic: true there: results are marked",
            )


def _words(project: Project, name: str, topic: str, seen: Seen) -> Iterator[Finding]:
    """Words for which the encoder's vocabulary has no piece, or the unknown piece alone."""
    if name not in project.params.train_on:
        return
    try:
        tokenizer = tokenizer_of(project, name)
    except FmitError as error:
        yield note(topic, f"words were not looked up: {error}", error.todo)
        return
    words = list(seen.words)
    rows = tokenizer(words, add_special_tokens=False)["input_ids"] if words else []
    unknown = {tokenizer.unk_token_id}
    for title, bad in (
        ("without a piece", [word for word, ids in zip(words, rows, strict=True) if not ids]),
        ("unknown to the vocabulary", [word for word, ids in zip(words, rows, strict=True) if set(ids) == unknown]),
    ):
        if bad:
            shown = ", ".join(repr(word)[:24] for word in bad[:N_NAMED])
            times = sum(seen.words[word] for word in bad)
            what = f"{len(bad)} word(s) {title} in the encoder ({times} times): {shown}"
            yield note(topic, what, "they are read as the unknown piece; another encoder may know them")


def tokenizer_of(project: Project, dataset: str) -> PreTrainedTokenizerBase:
    """The tokenizer that training would use; WeightsError where the encoder is not here, or cannot be read."""
    model = next(one for one in of_dataset(project, dataset) if one.part == "encoder")
    found = look(model)
    if not found.where:
        raise WeightsError(f"the encoder {model.name} is {found.state}", todo=found.fetched_by)
    from transformers import AutoTokenizer

    where = Path(found.where)
    folder = where if where.is_dir() else where.parent
    try:
        if wrong := hub.bad_json(folder):
            raise ValueError(wrong)
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"the encoder {model.name} has no readable tokenizer",
            found=str(error).splitlines()[0],
            todo=found.fetched_by,
        ) from None
