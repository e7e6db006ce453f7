"""Facts about a dataset that make training or its scores meaningless."""

from collections import Counter
from collections.abc import Iterable, Sequence

from schema.labels import entities
from schema.records import Post

UNUSABLE_SHARE = 0.5  # of a split's images; our choice: beyond it the model mostly reads the empty image


def splits_without_entities(posts: Iterable[Post]) -> list[str]:
    """Splits that have labeled posts but no entity, in order of appearance."""
    n_entities: Counter[str] = Counter()
    for post in posts:
        if post.tags is not None:
            n_entities[post.split] += len(entities(post.tags))
    return [split for split, number in n_entities.items() if not number]


def unusable_images(posts: Iterable[Post]) -> dict[str, str]:
    """By split: how many images cannot be used, and why; with a warning in capitals if these are at least half."""
    states: dict[str, Counter[str]] = {}
    for post in posts:
        states.setdefault(post.split, Counter()).update(image.state for image in post.images)
    messages = {}
    for split, counts in states.items():
        if n_unusable := counts.total() - counts["ok"]:
            reasons = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()) if state != "ok")
            loud = "MOST IMAGES ARE UNUSABLE: " if n_unusable >= UNUSABLE_SHARE * counts.total() else ""
            messages[split] = f"{loud}{n_unusable} of {counts.total()} image(s) cannot be used ({reasons})"
    return messages


def training_warnings(posts: Sequence[Post], *, reads_images: bool) -> list[str]:
    """Warnings to give before training on the splits train and dev, one sentence each."""
    used = [post for post in posts if post.split in ("train", "dev")]
    warnings = []
    for split in splits_without_entities(used):
        effect = "no epoch can be better than another" if split == "dev" else "the model cannot learn any entity"
        warnings.append(f"{split} has labeled posts but no entity, so {effect}: check its labels")
    for split, message in unusable_images(used).items() if reads_images else ():
        warnings.append(f"{split}: {message}, so their posts have the empty image: run fmit doctor")
    return warnings
