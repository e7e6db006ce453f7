"""Labels that the settings do not know, all at once: reading stops at the first, and a newcomer wants the list."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from commands.doctor.findings import Finding, note, ok, problem
from pipeline.corpus import variants
from pipeline.corpus.config import SourceConfig
from pipeline.corpus.records import lines
from schema.errors import DataError
from schema.records import Split

N_NAMED = 8  # labels in one line
FIRST_LETTERS = {"iob2": "BI", "iob1": "BI", "bioes": "BIES"}


def unknown_labels(topic: str, config: SourceConfig, files: Mapping[Split, Path]) -> Iterator[Finding]:
    """Types that are neither in labels nor aliases, and tags of another scheme, with how often they occur."""
    labels = config.label_set()
    found = Counter(tag for path in files.values() for tag in _tags(path, config.format))
    names: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for tag, n in found.items():
        prefix, _, name = tag.partition("-")
        if tag == "O":
            continue
        if not name or prefix not in ("B", "I", "E", "S"):
            others[tag] += n
        elif labels.aliases.get(name, name) not in labels.words:
            names[name] += n
        elif prefix not in FIRST_LETTERS[config.scheme]:
            others[tag] += n
    if names:
        todo = "add them to source.labels (TYPE: general word), or to source.aliases (NAME: TYPE)"
        yield problem(topic, f"types that source.labels does not know: {_told(names)}", todo)
    if others:
        todo = "source.scheme: bioes, if they are such tags; else mend these lines"
        yield problem(topic, f"labels that are no {config.scheme} tags: {_told(others)}", todo)


def variant(topic: str, digests: Mapping[Split, str], folder: str) -> Finding | None:
    """Which known corpus the files (split -> sha256) are; a note where they pass for one and are none."""
    name = variants.variant(digests.values())
    if name:
        return ok(topic, f"the files are the known variant {name}")
    warning = variants.warning(digests, variants.corpus("", folder))
    return note(topic, warning, "say which label version it is beside every figure") if warning else None


def _told(counts: Counter[str]) -> str:
    shown = ", ".join(f"{name} ({n})" for name, n in counts.most_common(N_NAMED))
    return shown + (f" and {len(counts) - N_NAMED} more" if len(counts) > N_NAMED else "")


def _tags(path: Path, format: str) -> Iterator[str]:
    """Every label of a file, as far as the file can be read."""
    with suppress(DataError):  # said where posts are read
        for _, line in lines(path):
            if format == "conll":
                if "\t" in line:
                    yield line.rpartition("\t")[2].strip(" ")
            else:
                yield from _of_row(line)


def _of_row(line: str) -> Iterator[str]:
    row: Any = None
    with suppress(ValueError, RecursionError):
        row = json.loads(line)
    if not isinstance(row, dict):
        return
    labels, entities = row.get("labels"), row.get("entities")
    yield from (tag for tag in (labels if isinstance(labels, list) else ()) if isinstance(tag, str))
    for one in entities if isinstance(entities, list) else ():
        if isinstance(one, dict) and isinstance(one.get("type"), str):
            yield f"B-{one['type']}"
