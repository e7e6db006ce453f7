"""The corpora of the paper: which variant of them a file is (their labels differ), and the paper's figures for them."""

from collections.abc import Mapping

from schema.records import Split

# sha256 of a file -> its variant and split there; all from UMT's public release
VARIANTS: Mapping[str, tuple[str, Split]] = {
    "a6246e37aa1c8acd738747fa8257e01775f2a1cc0d4f36f82f9d41d6246ad6fa": ("twitter2015-umt", "train"),
    "9dcc7f9df7331de3c9cdf67a3450e041c41c6254b5e43925c576e2dfaaabe2ad": ("twitter2015-umt", "dev"),
    "edb2665b89bfe58bca06a2c10b9b31cbfa95456135b6a4cbf55c872e48d9b8f9": ("twitter2015-umt", "test"),
    "801e149e8635b19d66b4ec1212c329be340ada501b35c5fa55455fb6f53633be": ("twitter2017-umt", "train"),
    "41b5db90cb32059c14c2c3ccd50845fb77f1e3d3e4f7d0c210a61bc507d8a73e": ("twitter2017-umt", "dev"),
    "a7d9e172ae85bd3e35276eb2b01ce223321bdc92a47b234e24305d72e7a05243": ("twitter2017-umt", "test"),
}

# Table 1 of the paper: corpus -> split -> entities by type in the order PER, LOC, ORG, MISC, their total, posts.
PAPER: Mapping[str, Mapping[str, tuple[int, int, int, int, int, int]]] = {
    "twitter2015": {
        "train": (2217, 2091, 928, 940, 6176, 4000),
        "dev": (552, 522, 247, 225, 1546, 1000),
        "test": (1816, 1697, 839, 726, 5078, 3257),
    },
    "twitter2017": {
        "train": (2943, 731, 1674, 701, 6049, 3373),
        "dev": (626, 173, 375, 150, 1324, 723),
        "test": (621, 178, 395, 157, 1351, 723),
    },
}
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
        recognised = "".join(f"; {split} is that of {name}" for split, (name, _) in known.items())
        what = f"no known variant of {corpus_name or names[0]} has these files: {', '.join(unknown)}{recognised}"
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
