"""One post with the outputs of all stages, on a terminal and as a page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import PIL.Image
import PIL.ImageDraw
from markupsafe import Markup
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from report.figures import draw
from report.pages import Loader, safe_word, script_json, shrunk, write_page
from report.posts import page_data, without_predictions
from schema.labels import LabelSet, entities
from schema.lattice import object_span, within_cap
from schema.records import Post, PostPhrases, Region
from schema.text import safe_text

# Of the lattice figure, in user units: height of a row, width of the names, width of a character, padding of a word
ROW, NAMES, CHAR, PADDING = 24, 190, 7.4, 12
LABEL_CHARS = 18  # of a word or an object's text in the figure
Color = tuple[int, int, int]
# The terminal's own colors, which suit its background; entity types use them in turn.
STYLES = ("bright_blue", "green", "yellow", "magenta", "red", "cyan")
RGB: tuple[Color, ...] = ((40, 100, 230), (30, 150, 70), (220, 120, 20), (150, 70, 200), (200, 50, 90), (0, 150, 160))
GRAY: Color = (90, 90, 100)
IMAGE_COLUMNS = 64  # of an image on a terminal; a character shows one pixel across and two down


class LatticeObject(NamedTuple):
    """An object with the positions of its first and last word; position 0 is [CLS], words are 1 to n."""

    region: Region
    head: int
    tail: int
    cut: bool  # the limit on objects (train.max_objects) excludes it from the lattice


@dataclass(frozen=True)
class PostDetails:
    post: Post
    labels: LabelSet
    normalized: tuple[tuple[tuple[str, int], ...], ...]  # per sentence: word as the parser reads it, index of the word
    phrases: PostPhrases | None = None
    boxes: tuple[Region, ...] = ()
    regions: tuple[Region, ...] = ()  # the objects of the pack, in the lattice's order
    synthetic: bool = False
    max_objects: int | None = None  # train.max_objects of the dataset; None: unknown, so no object is marked as cut

    @cached_property
    def objects(self) -> list[LatticeObject]:
        return lattice_objects(self.regions, self.post.n_words, self.max_objects)

    @property
    def cut_note(self) -> str:
        """A sentence about objects that are not in the lattice; "" if all are."""
        n_cut = sum(each.cut for each in self.objects)
        objects = f"{n_cut} of {len(self.regions)} objects are not in the lattice"
        return f"{objects} (train.max_objects: {self.max_objects})" if n_cut else ""


def lattice_objects(regions: Sequence[Region], n_words: int, max_objects: int | None = None) -> list[LatticeObject]:
    """Regions with their positions, in their order, and which of them the limit cuts (None: no limit)."""
    kept = within_cap([region.source for region in regions], len(regions) if max_objects is None else max_objects)
    spans = [object_span(region.span, n_words) for region in regions]
    return [LatticeObject(region, *spans[index], index not in kept) for index, region in enumerate(regions)]


def lattice_figure(words: Sequence[str], objects: Sequence[LatticeObject]) -> Markup:
    """SVG with a column for each text cell, then a row for each object: a bar from head to tail, both included."""
    labels = [safe_text(cell, LABEL_CHARS) for cell in ("[CLS]", *map(safe_word, words), "[SEP]")]
    edges = [float(NAMES), *(NAMES + x for x in accumulate(len(label) * CHAR + PADDING for label in labels))]
    rows = []
    for region, head, tail, cut in objects:
        name = "whole image" if region.source == "image" else safe_text(region.text)
        place = {"left": edges[head] + 2, "width": edges[tail + 1] - edges[head] - 4}
        css, title = f"bar {region.source}{' cut' * cut}", f"{name}: head {head}, tail {tail}{', cut' * cut}"
        rows.append({**place, "label": safe_text(name, LABEL_CHARS + 6), "css": css, "title": title})
    size = {"width": edges[-1] + 4, "height": ROW * (len(objects) + 2) + 6, "row_height": ROW}
    return draw("lattice", **size, cells=list(zip(edges, edges[1:], labels, strict=False)), objects=rows)


def write_html(details: PostDetails, out: Path, *, load_image: Loader, redact: bool = False) -> None:
    """Write the post as a page; `redact` also omits everything that repeats the post's words."""
    post, objects = details.post, [] if redact else details.objects
    prediction = without_predictions(post, details.boxes)
    data = page_data([prediction], details.labels.words, load_image, redact=redact, judge=False)[0]
    write_page(
        out,
        "post.html.jinja",
        ("cards.js", "post.js"),
        details=details,
        objects=objects,
        lattice=lattice_figure(post.words, objects) if objects else None,
        redact=redact,
        data=script_json(data),
    )


def to_terminal(details: PostDetails, console: Console, *, load_image: Loader | None = None) -> None:
    """Print the post: labeled words, normalized words, phrases, boxes, objects, and images if colors are possible."""
    post = details.post
    console.print(Text(f"{safe_text(post.id)}  {post.split}  {post.n_words} words", "bold"))
    if details.synthetic:
        console.print(Text("synthetic models: boxes and features come from models trained on drawings", "yellow"))
    console.print(_sentence(details))
    kept = {index for sentence in details.normalized for _, index in sentence}
    dropped = [safe_word(word) for index, word in enumerate(post.words) if index not in kept]
    normalized = [" ".join(safe_word(word) for word, _ in sentence) for sentence in details.normalized]
    normalized.append(f"dropped: {' '.join(dropped)}" if dropped else "nothing dropped")
    if details.phrases and details.phrases.fallback:
        normalized.append(f"fallback: {safe_text(details.phrases.fallback)}")
    images = []
    for index, image in enumerate(post.images):
        state = f"{image.width} x {image.height} px" if image.ok else f"{image.state}: {safe_text(image.reason)}"
        images.append(f"{index}  {safe_text(image.name, 80)}  {state}")
    for name, lines in (("normalized words", normalized), ("images", images or ["none"])):
        console.print(Text(f"\n{name}", "dim"))
        for line in lines:
            console.print(Text(f"  {line}"))
    _print_tables(details, console)
    # With NO_COLOR, rich prints no colors and an image would be a gray field.
    if load_image is not None and console.color_system in ("256", "truecolor") and not console.no_color:
        columns = min(IMAGE_COLUMNS, console.width - 2)
        for index, image in enumerate(post.images):
            if image.ok and (loaded := load_image(image.name, image.digest)):
                boxes = [box for box in details.boxes if box.image_index == index]
                colors = [(box.box.xyxy, _rgb(details, box)) for box in boxes if box.box]
                console.print(half_blocks(with_boxes(loaded, colors, columns)))


def _sentence(details: PostDetails) -> Text:
    post, types, text = details.post, details.labels.types, Text()
    by_word = {at: entity for entity in entities(post.tags or ()) for at in range(entity.span.start, entity.span.end)}
    for at, word in enumerate(post.words):
        entity = by_word.get(at)
        style = "bold" if entity else ""
        if entity and entity.type in types:
            style = f"bold {STYLES[types.index(entity.type) % len(STYLES)]}"
        text.append(safe_word(word), style)
        if entity and at == entity.span.end - 1:
            text.append(f"[{safe_text(entity.type)}]", "dim")
        text.append(" ")
    return text


def _print_tables(details: PostDetails, console: Console) -> None:
    """Noun phrases, boxes, and objects of the lattice."""
    by_span = {box.span: box for box in details.boxes if box.source == "phrase"}
    rows: list[tuple[object, ...]] = []
    for phrase in details.phrases.phrases if details.phrases else ():
        box = by_span.get(phrase.span)
        words, place = f"{phrase.span.start}–{phrase.span.end}", _place(box) if box else ("–", "–")
        rows.append((words, phrase.text, phrase.label, *place))
    console.print(_table("noun phrases", ("words", "phrase", "label", "box", "score"), rows))
    rows = [(box.source, box.text, *_place(box), "yes" if box.clamped else "", box.grounder) for box in details.boxes]
    console.print(_table("boxes", ("source", "text", "box", "score", "clamped", "grounder"), rows))
    columns = ("source", "text", "head", "tail", "box", "score", *(["lattice"] if details.cut_note else []))
    rows = []
    for region, head, tail, cut in details.objects:
        rows.append((region.source, region.text, head, tail, *_place(region), "cut" if cut else ""))
    console.print(_table(details.cut_note or "objects of the lattice", columns, rows))


def _place(region: Region) -> tuple[str, str]:
    """The box of a region, and its score."""
    box = region.box
    corners = f"{box.image_index}: ({box.x0}, {box.y0})–({box.x1}, {box.y1})" if box else "no image"
    return corners, f"{region.score:.3f}"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table with the first cells of each row, as many as there are columns."""
    heading = Text(f"\n{title}", "dim")
    table = Table(title=heading, title_justify="left", box=None, pad_edge=False, header_style="underline")
    for name in columns:
        table.add_column(name, justify="right" if name in ("head", "tail", "score") else "left", overflow="fold")
    for row in rows:  # Text: rich does not interpret markup in it
        table.add_row(*(Text(safe_text(cell, 80)) for cell in row[: len(columns)]))
    return table


def _rgb(details: PostDetails, box: Region) -> Color:
    """The color of a general word's type, or of the first gold entity that a phrase overlaps."""
    if box.source == "general":
        types = [name for name, word in details.labels.words.items() if word == box.text]
    else:
        gold = entities(details.post.tags or ())
        types = [entity.type for entity in gold if box.span and entity.span.overlaps(box.span)]
    indices = [details.labels.types.index(type_) for type_ in types if type_ in details.labels.types]
    return RGB[indices[0] % len(RGB)] if indices else GRAY


def half_blocks(image: PIL.Image.Image) -> Text:
    """An RGB image as text: a character's color is the upper of two pixels, its background the lower."""
    text, row = Text(), 3 * image.width
    rows = [image.tobytes()[start : start + row] for start in range(0, row * image.height, row)]
    for y in range(0, image.height, 2):
        upper, lower = rows[y], rows[min(y + 1, image.height - 1)]
        for x in range(0, row, 3):
            text.append("▀", Style(color=f"#{upper[x : x + 3].hex()}", bgcolor=f"#{lower[x : x + 3].hex()}"))
        text.append("\n")
    return text


def scaled(xyxy: Sequence[int], size: tuple[int, int], new_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A half-open box of an image of `size` (width, height) on its copy of `new_size`, at least one pixel wide."""
    x0, y0, x1, y1 = (round(xyxy[side] * new_size[side % 2] / size[side % 2]) for side in range(4))
    x0, y0 = min(x0, new_size[0] - 1), min(y0, new_size[1] - 1)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def with_boxes(image: PIL.Image.Image, boxes: Iterable[tuple[Sequence[int], Color]], side: int) -> PIL.Image.Image:
    """A copy of at most `side` pixels with boxes; a box's outline is drawn on pixels that belong to the box."""
    copy = shrunk(image, side)
    draw = PIL.ImageDraw.Draw(copy)
    for xyxy, color in boxes:
        x0, y0, x1, y1 = scaled(xyxy, image.size, copy.size)
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=color)
    return copy
