"""Checks of a dataset before any stage runs: files, labels, images, objects, and words that its encoder cannot read."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cache import hub
from cache.models import SYNTHETIC_GROUNDER
from checks import Finding, note, ok, problem
from checks.setup import CORRECT_KEY
from pipeline.corpus import inputs
from pipeline.corpus.config import SourceConfig
from pipeline.corpus.reader import SUFFIXES, ImageFolder, read_dataset
from pipeline.corpus.records import ReadLog
from pipeline.corpus.stage import IngestReport, survey
from pipeline.corpus.statistics import STATES, Counts, count
from pipeline.engine import Progress
from project import Project
from schema.errors import ConfigError, DataError, FmitError, WeightsError
from schema.lattice import CapCounter
from schema.records import Post, Split
from schema.text import first_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

N_EXAMPLES = 5  # in one line
N_LABELS = 8  # labels in one line
MAX_WORDS = 200_000  # distinct words that are looked up


@dataclass
class Contents:
    """What the checks need from a dataset, collected while its posts are read once; no post is stored."""

    cap: CapCounter | None
    words: Counter[str] = field(default_factory=Counter)
    images: set[str] = field(default_factory=set)
    photograph: str = ""  # the first usable image that is not synthetic

    def add(self, post: Post) -> None:
        if self.cap:
            self.cap.add(post)
        if len(self.words) < MAX_WORDS:
            self.words.update(post.words)
        for image in post.images:
            self.images.add(image.name)
            if image.ok and not image.synthetic:
                self.photograph = self.photograph or image.name


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
    if paths := inputs.untracked(project.root, name, folder, config):
        yield problem(topic, f"DVC does not track {first_of(paths, N_EXAMPLES)}", f"run `fmit ingest {name}`")
    contents = Contents(project.cap_counter(name) if _reads_phrases(project, name) else None)
    try:
        report = survey(config, folder, progress, contents.add)
    except FmitError as error:
        yield problem(topic, error.fact, error.todo or "correct this line")
        yield from check_labels(topic, config, files)
        return
    yield from _check_report(topic, report)
    images = folder / config.images
    files_in = (path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if unused := sorted({path.relative_to(images).as_posix() for path in files_in} - contents.images):
        what = f"{len(unused)} image(s) that no post names: {first_of(unused, N_EXAMPLES)}"
        yield note(topic, what, "check the posts' image names")
    yield from _check_synthetic(project, name, topic, contents)
    if name in project.params.train_on:
        yield from _check_training_splits(topic, report.counts)
        if contents.cap and (what := contents.cap.message()):
            todo = "raise train.max_objects, or lower phrases.max_phrases"
            yield (problem if contents.cap.cut.n_phrases else note)(topic, what, todo)
        yield from _check_words(project, name, topic, contents)


def check_labels(topic: str, config: SourceConfig, files: Mapping[Split, Path]) -> Iterator[Finding]:
    """All types that are neither in labels nor in aliases, and all tags outside the scheme, with their counts."""
    labels, log = config.label_set(), ReadLog(lambda _: None, foreign_labels=True)
    with suppress(DataError):  # reported where posts are read
        counts = count(read_dataset(config, files, ImageFolder(None), log))
        log.n_fitting += sum(split.entities.total() for split in counts.splits.values())
    types: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    for label, n in log.unknown.items():
        name = label.partition("-")[2] or label
        counter, key = (tags, label) if labels.knows(name) else (types, name)
        counter[key] += n
    if types:
        todo = "add them to source.labels (TYPE: general word), or to source.aliases (NAME: TYPE)"
        yield problem(topic, f"types that are not in source.labels: {_with_numbers(types)}", todo)
        if not log.n_fitting:
            what = f"source.labels ({', '.join(labels.types)}) has no type in common with the data"
            yield problem(topic, what, f"set source.labels to the data's types: {', '.join(sorted(types))}")
    if tags:
        todo = "set source.scheme to that of the files, or correct these lines"
        yield problem(topic, f"labels that are not {config.scheme} tags: {_with_numbers(tags)}", todo)


def _with_numbers(counts: Counter[str]) -> str:
    return first_of([f"{name} ({n})" for name, n in counts.most_common()], N_LABELS)


def _check_report(topic: str, report: IngestReport) -> Iterator[Finding]:
    """What ingest would report."""
    counts = report.counts
    sizes = ", ".join(f"{split} {figures.n_posts}" for split, figures in counts.splits.items())
    yield ok(topic, f"{counts.total('n_posts')} posts ({sizes}), {counts.total('n_words')} words")
    yield ok(topic, "images: " + ", ".join(f"{counts.images(state)} {state}" for state in STATES))
    if report.warning and counts.image_warning():
        yield problem(topic, report.warning, "see the reasons below; posts without images must not name any")
    elif report.warning:
        yield note(topic, report.warning, "state the label variant with every score")
    for remark in report.remarks():
        if not remark.startswith("warning"):
            yield note(topic, remark)
    entities = sum((figures.entities for figures in counts.splits.values()), Counter())
    unused = [kind for kind in report.labels.types if not entities[kind]]
    if unused and entities:
        yield note(topic, f"no entity of type {', '.join(unused)}", "remove unused types from source.labels")
    if counts.total("n_orphans"):
        what = f"{counts.total('n_orphans')} I- tag(s) do not continue an entity; strict scoring ignores them"
        yield note(topic, what, "set source.scheme: iob1 if the files are IOB1")


def _check_training_splits(topic: str, counts: Counts) -> Iterator[Finding]:
    effects = {"train": "the model cannot learn any entity", "dev": "no epoch can be better than another"}
    for split, effect in effects.items():
        figures = counts.splits.get(split)
        if figures is None or figures.n_unlabelled == figures.n_posts:
            todo = f"give it labeled {split} posts, or remove it from train_on"
            yield problem(topic, f"it is in train_on and has no labeled {split} posts", todo)
            continue
        if figures.n_unlabelled:
            yield note(topic, f"{figures.n_unlabelled} {split} post(s) without labels", "label them, or remove them")
        if not figures.entities:
            what = f"it is in train_on and its {split} posts have no entity, so {effect}"
            yield problem(topic, what, f"check the labels of the {split} file, or name another file in source.files")


def _check_synthetic(project: Project, name: str, topic: str, contents: Contents) -> Iterator[Finding]:
    """The grounder trained on drawings rejects photographs: better reported now than after an hour."""
    if not contents.photograph or name not in (project.params.datasets or project.params.data):
        return  # no stage of this dataset runs, or none reads a photograph
    ground = project.ground_config(name)
    if ground.grounder == SYNTHETIC_GROUNDER and not ground.allow_synthetic:
        what = f"{ground.grounder} was trained on drawings and rejects {contents.photograph}"
        yield problem(topic, what, f"set data.{name}.ground to {{preset: embedded}}, which works on photographs")


def _reads_phrases(project: Project, name: str) -> bool:
    """Whether any approach to be trained on the dataset reads phrases."""
    objects = set()
    for approach in project.params.approaches if name in project.params.train_on else ():
        with suppress(ConfigError):  # reported by check_names
            objects.add(project.config(name, approach).objects)
    return not objects.isdisjoint({"all", "grounded", "phrases"})


def _check_words(project: Project, name: str, topic: str, contents: Contents) -> Iterator[Finding]:
    """Words for which the encoder's vocabulary has no piece, or only the unknown piece."""
    try:
        tokenizer = load_tokenizer(project, name)
    except FmitError as error:
        yield note(topic, f"words were not looked up: {error.fact}", error.todo)
        return
    words = list(contents.words)
    rows = tokenizer(words, add_special_tokens=False)["input_ids"] if words else []
    unknown = {tokenizer.unk_token_id}
    for title, bad in (
        ("without a word piece", [word for word, ids in zip(words, rows, strict=True) if not ids]),
        ("not in the vocabulary", [word for word, ids in zip(words, rows, strict=True) if set(ids) == unknown]),
    ):
        if bad:
            n_uses = sum(contents.words[word] for word in bad)
            examples = first_of([repr(word)[:24] for word in bad], N_EXAMPLES)
            what = f"{len(bad)} word(s) {title} of the encoder ({n_uses} times): {examples}"
            yield note(topic, what, "they are encoded as the unknown piece; another encoder may have them")


def load_tokenizer(project: Project, dataset: str) -> "PreTrainedTokenizerBase":
    """The tokenizer that training would use; raises WeightsError if the encoder is missing or damaged."""
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
