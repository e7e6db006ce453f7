"""The corpora of the paper: which variant of them a file is (their labels differ), and the paper's figures for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from schema.records import Split

_DATA = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
VARIANTS: Mapping[str, tuple[str, Split]] = {digest: tuple(file) for digest, file in _DATA["files"].items()}
PAPER: Mapping[str, Mapping[str, Sequence[int]]] = _DATA["paper"]  # Table 1
PAPER_TYPES = ("PER", "LOC", "ORG", "MISC")


def variant(digests: Mapping[Split, str]) -> str:
    """The known variant of which each of these files (split -> sha256) is that split, or ""."""
    matches = [VARIANTS.get(digest, ("", split)) for split, digest in digests.items()]
    names = {name if known == split else "" for split, (name, known) in zip(digests, matches, strict=True)}
    return names.pop() if len(names) == 1 else ""


def warning(digests: Mapping[Split, str], corpus_name: str) -> str:
    """A warning about files (split -> sha256) that resemble a known corpus; "" if they are all of one variant."""
    known = {split: VARIANTS[digest] for split, digest in digests.items() if digest in VARIANTS}
    if not corpus_name and not known:
        return ""
    names = sorted({name for name, _ in known.values()})
    moved = [f"{split} is {name}'s {other}" for split, (name, other) in known.items() if split != other]
    unknown = [split for split in digests if split not in known]
    if moved:
        what = f"files under another split's name: {', '.join(moved)}"
    elif unknown:
        recognized = "".join(f"; {split} matches {name}" for split, (name, _) in known.items())
        what = f"no known variant of {corpus_name or names[0]} has these files: {', '.join(unknown)}{recognized}"
    elif len(names) > 1:
        what = f"files of different variants of {corpus_name or 'a corpus'}: {', '.join(names)}"
    else:
        return ""
    variants = ", ".join(sorted({name for name, _ in VARIANTS.values()}))
    return f"{what} (known variants: {variants}); scores may not be comparable with published ones"


def corpus(variant_name: str, folder_name: str) -> str:
    """The paper's name of a corpus, by its variant or else by the name of its folder; "" for any other."""
    hint = (variant_name or folder_name).lower().replace("-", "").replace("_", "").replace("twitter20", "twitter")
    return next((name for name in PAPER if name.replace("twitter20", "twitter") in hint), "")
