"""Checks of a dataset before any stage runs: files, labels, images, objects, and words that its encoder cannot read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cache import hub, keys
from checks.findings import Finding, note, ok, problem
from checks.settings import CORRECT_KEY
from pipeline.corpus import inputs, variants
from pipeline.corpus.config import SourceConfig
from pipeline.corpus.reader import SUFFIXES, ImageFolder, count_posts, read_dataset
from pipeline.corpus.records import ReadLog
from pipeline.corpus.statistics import STATES, Counts, count
from pipeline.engine import Progress
from project import Project
from schema.errors import ConfigError, DataError, FmitError, WeightsError
from schema.lattice import CutObjects, count_cut
from schema.records import Post, Split
from schema.text import first_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from model.config import TrainConfig

N_NAMED = 5  # examples in one line
N_LABELS = 8  # labels in one line
MAX_WORDS = 200_000  # distinct words that are looked up


@dataclass
class Contents:
    """What the checks need of a dataset, collected while its posts are read once; no post is kept."""

    words: Counter[str] = field(default_factory=Counter)
    images: set[str] = field(default_factory=set)
    photograph: str = ""  # the first usable image that the project did not draw

    def add(self, post: Post) -> Post:
        if len(self.words) < MAX_WORDS:
            self.words.update(post.words)
        for image in post.images:
            self.images.add(image.name)
            if image.ok and not image.synthetic:
                self.photograph = self.photograph or image.name
        return post


@dataclass
class Lattice:
    """What `train.max_objects` cuts, counted while posts are read; phrases are known once their stage has run."""

    cap: int | None  # None: no approach's lattice holds phrases
    n_general_words: int = 0
    n_phrases: dict[str, int] = field(default_factory=dict)
    cut: CutObjects = field(default_factory=CutObjects)

    @classmethod
    def of(cls, project: Project, name: str) -> Lattice:
        configs = _object_configs(project, name) if name in project.params.train_on else []
        if not configs:
            return cls(None)
        cap = min(config.max_objects for config in configs)
        return cls(cap, len(project.source(name).label_set().general_words), _phrase_counts(project, name))

    def add(self, post: Post) -> Post:
        if self.cap is not None:
            for cut in count_cut([post], self.n_general_words, self.cap, self.n_phrases).values():
                self.cut += cut
        return post

    def findings(self, topic: str) -> Iterator[Finding]:
        what = f"train.max_objects {self.cap} cuts {self.cut.message()}"
        if self.cut.n_phrases:
            yield problem(topic, what, "raise train.max_objects, or lower phrases.max_phrases")
        elif self.cut.n_objects:
            yield note(topic, what, "raise train.max_objects to keep all objects of general words")


def check_dataset(project: Project, name: str, progress: Progress) -> Iterator[Finding]:
    """Every finding about one dataset. Files are read once and images decoded once."""
    topic = f"data {name}"
    try:
        config, folder = project.source(name), project.data(name)
        files = config.paths(folder)
    except ConfigError as error:
        if name in project.params.draw and not project.data(name).exists():
            yield note(topic, "not drawn yet", f"fmit draw {name} (dvc repro does it)")
        else:
            yield problem(topic, error.fact, error.todo or CORRECT_KEY)
        return
    if paths := inputs.unwatched(project.root, name, folder, config):
        what = f"DVC does not see changes behind {first_of(paths, N_NAMED)}"
        yield problem(topic, what, f"run `fmit ingest {name}`, which makes DVC watch them")
    contents, log, lattice = Contents(), ReadLog(), Lattice.of(project, name)
    try:
        posts = (lattice.add(contents.add(post)) for post in _read(config, files, folder, log, progress))
        counts = count(posts)
    except FmitError as error:
        yield problem(topic, error.fact, error.todo or "correct this line")
        yield from check_labels(topic, config, files)
        return
    yield from check_variant(topic, {split: keys.digest_file(path) for split, path in files.items()}, folder.name)
    yield from _check_posts(project, name, topic, config, counts, log)
    yield from _check_images(topic, folder / config.images, counts, contents)
    yield from _check_synthetic(project, name, topic, contents)
    if name in project.params.train_on:
        yield from lattice.findings(topic)
        yield from _check_words(project, name, topic, contents)


def _read(
    config: SourceConfig, files: Mapping[Split, Path], folder: Path, log: ReadLog, progress: Progress
) -> Iterator[Post]:
    images = ImageFolder(folder / config.images, config.image_suffix)
    total = sum(count_posts(path, config) for path in files.values())
    for done, post in enumerate(read_dataset(config, files, images, log), start=1):
        progress(done, max(total, done))
        yield post


def check_labels(topic: str, config: SourceConfig, files: Mapping[Split, Path]) -> Iterator[Finding]:
    """All types that are neither in labels nor in aliases, and all tags of another scheme, with their numbers."""
    labels, log = config.label_set(), ReadLog(lambda _: None, foreign_labels=True)
    with suppress(DataError):  # reported where posts are read
        counts = count(read_dataset(config, files, ImageFolder(None), log))
        log.n_fitting += sum(split.entities.total() for split in counts.splits.values())
    types: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    for label, n in log.unknown.items():
        name = label.partition("-")[2] or label
        if labels.knows(name):
            tags[label] += n
        else:
            types[name] += n
    if types:
        todo = "add them to source.labels (TYPE: general word), or to source.aliases (NAME: TYPE)"
        yield problem(topic, f"types that source.labels does not know: {_with_numbers(types)}", todo)
        if not log.n_fitting:
            what = f"source.labels ({', '.join(labels.types)}) has no type in common with the data"
            yield problem(topic, what, f"set data.NAME.source.labels to the data's types: {', '.join(sorted(types))}")
    if tags:
        todo = "set source.scheme to that of the files, or correct these lines"
        yield problem(topic, f"labels that are not {config.scheme} tags: {_with_numbers(tags)}", todo)


def _with_numbers(counts: Counter[str]) -> str:
    return first_of([f"{name} ({n})" for name, n in counts.most_common()], N_LABELS)


def check_variant(topic: str, digests: Mapping[Split, str], folder: str) -> Iterator[Finding]:
    """Which known corpus the files (split -> sha256) are; a note where their folder's name says so and they are not."""
    name = variants.variant(digests)
    if name:
        yield ok(topic, f"the files are the known variant {name}")
    elif warning := variants.warning(digests, variants.corpus("", folder)):
        yield note(topic, warning, "name the label version beside every score")


def _check_posts(
    project: Project, name: str, topic: str, config: SourceConfig, counts: Counts, log: ReadLog
) -> Iterator[Finding]:
    sizes = ", ".join(f"{split} {one.n_posts}" for split, one in counts.splits.items())
    yield ok(topic, f"{counts.total('n_posts')} posts ({sizes}), {counts.total('n_words')} words")
    if name in project.params.train_on:
        yield from _check_training_splits(topic, counts)
    entities = sum((one.entities for one in counts.splits.values()), Counter())
    unused = [kind for kind in config.label_set().types if not entities[kind]]
    if unused and entities:
        yield note(topic, f"no entity of type {', '.join(unused)}", "remove unused types from source.labels")
    if counts.total("n_orphans"):
        what = f"{counts.total('n_orphans')} I- tag(s) continue no entity; strict scores count no entity for them"
        yield note(topic, what, "set source.scheme: iob1 if the files are IOB1")
    if log.n_repeated:
        what = f"{log.n_repeated} repeated id(s): they become id~2 and so on"
        yield note(topic, what, "give each post an id of its own")


def _check_training_splits(topic: str, counts: Counts) -> Iterator[Finding]:
    for split in ("train", "dev"):
        found = counts.splits.get(split)
        if found is None or found.n_unlabelled == found.n_posts:
            todo = f"give it labelled {split} posts, or remove it from train_on"
            yield problem(topic, f"it is in train_on and has no labelled {split} posts", todo)
            continue
        if found.n_unlabelled:
            yield note(topic, f"{found.n_unlabelled} {split} post(s) without labels", "label them, or remove them")
        if not found.entities:
            effect = "the model can learn no entity" if split == "train" else "no epoch can be better than another"
            what = f"it is in train_on and its {split} posts have no entity, so {effect}"
            yield problem(topic, what, f"check the labels of the {split} file, or name another file in source.files")


def _check_images(topic: str, folder: Path, counts: Counts, contents: Contents) -> Iterator[Finding]:
    numbers = {state: counts.images(state) for state in STATES}
    yield ok(topic, "images: " + ", ".join(f"{n} {state}" for state, n in numbers.items()))
    todo = {
        "missing": f"put them into {folder}, or ignore this: such a post has the empty image",
        "broken": "fetch them again, or ignore this: such a post has the empty image",
        "refused": "see the reasons: convert the images, or correct their names in the posts",
    }
    for state, advice in todo.items():
        if numbers[state]:
            yield note(topic, f"{numbers[state]} image(s) {state}: {'; '.join(counts.examples[state])}", advice)
    if warning := counts.image_warning():
        yield problem(topic, warning, "see the reasons above; a dataset without images names none in its posts")
    unused = sorted(_image_files(folder) - contents.images)
    if unused:
        what = f"{len(unused)} image(s) that no post names: {first_of(unused, N_NAMED)}"
        yield note(topic, what, "check the posts' image names")


def _image_files(folder: Path) -> set[str]:
    """Images below a folder, by their name in it."""
    with suppress(OSError):
        return {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file()
        }
    return set()


def _check_synthetic(project: Project, name: str, topic: str, contents: Contents) -> Iterator[Finding]:
    """Parts trained on synthetic images refuse photographs: better reported now than after an hour."""
    if not contents.photograph or name not in (project.params.datasets or project.params.data):
        return  # no stage of this dataset runs, or none sees a photograph
    ground, regions = project.ground_config(name), project.regions_config(name)
    for part, section, allowed in (
        (ground.grounder, "ground", ground.allow_synthetic),
        (regions.net, "regions", regions.allow_synthetic),
    ):
        if part.startswith("toy-") and not allowed:
            what = f"{part} was trained on synthetic images and refuses {contents.photograph}"
            todo = f"name a real model in data.{name}.{section}, or set allow_synthetic: true there to mark the results"
            yield problem(topic, what, todo)


def _object_configs(project: Project, name: str) -> list[TrainConfig]:
    """The settings of those approaches whose lattice holds phrases."""
    configs = []
    for approach in project.params.approaches:
        with suppress(ConfigError):  # reported by check_names
            configs.append(project.config(name, approach))
    return [one for one in configs if one.objects in ("all", "grounded", "phrases")]


def _phrase_counts(project: Project, name: str) -> dict[str, int]:
    """Phrases of each post; nothing before the phrases stage has run."""
    from cache import tables

    path = project.out(name, "phrases.parquet")
    parsed = tables.read_phrases(path)[0] if path.is_file() else []
    return {one.post_id: len({(each.span.start, each.span.end) for each in one.phrases}) for one in parsed}


def _check_words(project: Project, name: str, topic: str, contents: Contents) -> Iterator[Finding]:
    """Words for which the encoder's vocabulary has no piece, or the unknown piece alone."""
    try:
        tokenizer = load_tokenizer(project, name)
    except FmitError as error:
        yield note(topic, f"words were not looked up: {error.fact}", error.todo)
        return
    words = list(contents.words)
    rows: Sequence[list[int]] = tokenizer(words, add_special_tokens=False)["input_ids"] if words else []
    pieces = dict(zip(words, rows, strict=True))
    unknown = {tokenizer.unk_token_id}
    for title, bad in (
        ("without a piece", [word for word, ids in pieces.items() if not ids]),
        ("unknown to the vocabulary", [word for word, ids in pieces.items() if set(ids) == unknown]),
    ):
        if bad:
            times = sum(contents.words[word] for word in bad)
            shown = first_of([repr(word)[:24] for word in bad], N_NAMED)
            what = f"{len(bad)} word(s) {title} in the encoder ({times} times): {shown}"
            yield note(topic, what, "they are read as the unknown piece; another encoder may know them")


def load_tokenizer(project: Project, dataset: str) -> PreTrainedTokenizerBase:
    """The tokenizer that training would use; raises WeightsError where the encoder is missing or damaged."""
    ref = project.train_config(dataset).encoder_ref()
    path = ref.locate()
    folder = path if path.is_dir() else path.parent
    from transformers import AutoTokenizer

    try:
        if wrong := hub.bad_json(folder):
            raise ValueError(wrong)
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        what = f"the tokenizer of the encoder {ref.name} cannot be read"
        raise WeightsError(what, where=str(folder), found=str(error).splitlines()[0], todo=ref.how_to_get) from None
