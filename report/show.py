"""One post with everything the stages made of it, on a terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from xml.etree import ElementTree as Tree

import PIL.Image
from markupsafe import Markup
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from report.figures import add
from report.pages import safe_text, safe_word, script_json, write_page
from report.posts import post_data, without_predictions
from report.thumbnails import Color, Loader, load_or_none, with_boxes
from schema.labels import LabelSet, entities
from schema.lattice import object_span, within_cap
from schema.records import Box, Post, PostPhrases, Region

# Of the lattice figure, in user units: height of a row, width of the names, width of a character, padding of a word
ROW, NAMES, CHAR, PADDING = 24, 190, 7.4, 12
LABEL_CHARS = 18  # of a word or an object's text in the figure
# The terminal's own colors, which suit its background; entity types use them in turn.
STYLES = ("bright_blue", "green", "yellow", "magenta", "red", "cyan")
RGB: tuple[Color, ...] = ((40, 100, 230), (30, 150, 70), (220, 120, 20), (150, 70, 200), (200, 50, 90), (0, 150, 160))
GRAY: Color = (90, 90, 100)
IMAGE_COLUMNS = 64  # of an image on a terminal; a character shows one pixel across and two down


@dataclass(frozen=True, slots=True)
class LatticeObject:
    """An object with the positions of its first and last word; position 0 is [CLS], words are 1 to n.

    `cut`: the limit on objects (train.max_objects) excludes it from the lattice.
    """

    region: Region
    head: int
    tail: int
    cut: bool = False


@dataclass(frozen=True)
class PostDetails:
    """A post with what the stages made of it.

    `normalized` holds, per sentence, (word as the parser reads it, index of the post's word); None: not given.
    `regions` are the objects of the pack, in the lattice's order.
    """

    post: Post
    labels: LabelSet
    normalized: tuple[tuple[tuple[str, int], ...], ...] | None = None
    phrases: PostPhrases | None = None
    boxes: tuple[Region, ...] = ()
    regions: tuple[Region, ...] = ()
    synthetic: bool = False
    max_objects: int | None = None  # train.max_objects of the dataset; None: unknown, so no object is marked as cut

    @cached_property
    def objects(self) -> list[LatticeObject]:
        return lattice_objects(self.regions, self.post.n_words, self.max_objects)

    @property
    def cut_note(self) -> str:
        """A sentence about objects that are not in the lattice; "" if all are."""
        n_cut = sum(one.cut for one in self.objects)
        objects = f"{n_cut} of {len(self.regions)} objects are not in the lattice"
        return f"{objects} (train.max_objects: {self.max_objects})" if n_cut else ""


def lattice_objects(regions: Sequence[Region], n_words: int, max_objects: int | None = None) -> list[LatticeObject]:
    """Regions with their positions, in their order, and which of them the limit cuts (None: no limit)."""
    kept = set(within_cap([region.source for region in regions], len(regions) if max_objects is None else max_objects))
    return [
        LatticeObject(region, *object_span(region.span, n_words), cut=index not in kept)
        for index, region in enumerate(regions)
    ]


def lattice_figure(words: Sequence[str], objects: Sequence[LatticeObject]) -> Markup:
    """SVG with a column for each text cell, then a row for each object: a bar from head to tail, both included."""
    cells = ["[CLS]", *(safe_word(word) for word in words), "[SEP]"]
    labels = [safe_text(cell, LABEL_CHARS) for cell in cells]
    edges = [float(NAMES), *(NAMES + x for x in accumulate(len(label) * CHAR + PADDING for label in labels))]
    height = ROW * (len(objects) + 2) + 6
    size = {"viewBox": f"0 0 {edges[-1] + 4:.0f} {height}", "width": f"{edges[-1] + 4:.0f}", "height": f"{height}"}
    svg = Tree.Element("svg", {**size, "role": "img", "class": "lattice"})
    add(svg, "title", text="objects and the words that they span")
    for position, label in enumerate(labels):
        middle = (edges[position] + edges[position + 1]) / 2
        add(svg, "line", "grid", x1=edges[position], x2=edges[position], y1=0, y2=height)
        add(svg, "text", "tick middle", text=f"{position}", x=middle, y=14)
        add(svg, "text", "cell middle", text=label, x=middle, y=ROW + 12)
    for row, one in enumerate(objects, 2):
        _bar(svg, one, row * ROW, edges)
    return Markup(Tree.tostring(svg, encoding="unicode"))


def _bar(svg: Tree.Element, one: LatticeObject, y: float, edges: Sequence[float]) -> None:
    name = one.region.text if one.region.source != "image" else "whole image"
    add(svg, "text", "name", text=safe_text(name, LABEL_CHARS + 6), x=4, y=y + 16)
    x0, x1 = edges[one.head], edges[one.tail + 1]
    css, note = (" cut", ", cut") if one.cut else ("", "")
    bar = add(svg, "rect", f"bar {one.region.source}{css}", x=x0 + 2, y=y + 4, width=x1 - x0 - 4, height=ROW - 8, rx=4)
    add(bar, "title", text=f"{name}: head {one.head}, tail {one.tail}{note}")


def write_html(details: PostDetails, out: Path, *, load_image: Loader, redact: bool = False) -> None:
    """Write the post as a page; `redact` also omits everything that repeats the post's words."""
    post = details.post
    data = post_data(
        [without_predictions(post, details.boxes)], details.labels.words, load_image, redact=redact, judge=False
    )
    objects = [] if redact else details.objects
    write_page(
        out,
        "post.html.jinja",
        ("cards.js", "post.js"),
        post=post,
        synthetic=details.synthetic,
        words=() if redact else post.words,
        normalized=None if redact else details.normalized,
        phrases=None if redact else details.phrases,
        boxes=() if redact else details.boxes,
        objects=objects,
        cut_note=details.cut_note,
        lattice=lattice_figure(post.words, objects) if objects else None,
        redact=redact,
        data=script_json(data.to_json()),
    )


def to_terminal(details: PostDetails, console: Console, *, load_image: Loader | None = None) -> None:
    """Print the post: labelled words, normalized words, phrases, boxes, objects, and images if there are colors."""
    post = details.post
    console.print(Text(f"{safe_text(post.id)}  {post.split}  {post.n_words} words", "bold"))
    if details.synthetic:
        console.print(Text("synthetic parts: boxes and features come from parts trained on drawings", "yellow"))
    console.print(_sentence(details))
    for name, lines in (("normalized words", _normalized_lines(details)), ("images", _image_lines(post))):
        console.print(Text(f"\n{name}", "dim"))
        for line in lines:
            console.print(Text(f"  {line}"))
    for table in (_phrase_table(details), _box_table(details), _object_table(details)):
        console.print(table)
    # With NO_COLOR, rich prints no color and an image would be a gray field.
    if load_image is not None and console.color_system in ("256", "truecolor") and not console.no_color:
        for image in _images(details, load_image, min(IMAGE_COLUMNS, console.width - 2)):
            console.print(image)


def _sentence(details: PostDetails) -> Text:
    post, text = details.post, Text()
    by_word = {index: one for one in entities(post.tags or ()) for index in range(one.span.start, one.span.end)}
    for index, word in enumerate(post.words):
        entity = by_word.get(index)
        text.append(safe_word(word), _style(details, entity.type) if entity else "")
        if entity and index == entity.span.end - 1:
            text.append(f"[{safe_text(entity.type)}]", "dim")
        text.append(" ")
    return text


def _style(details: PostDetails, name: str) -> str:
    types = details.labels.types
    return f"bold {STYLES[types.index(name) % len(STYLES)]}" if name in types else "bold"


def _normalized_lines(details: PostDetails) -> Iterator[str]:
    if details.normalized is None:
        yield "not given"
        return
    for sentence in details.normalized:
        yield " ".join(safe_word(word) for word, _ in sentence)
    kept = {index for sentence in details.normalized for _, index in sentence}
    dropped = [safe_word(word) for index, word in enumerate(details.post.words) if index not in kept]
    yield f"dropped: {' '.join(dropped)}" if dropped else "nothing dropped"
    if details.phrases and details.phrases.fallback:
        yield f"fallback: {safe_text(details.phrases.fallback)}"


def _image_lines(post: Post) -> Iterator[str]:
    if not post.images:
        yield "none"
    for index, image in enumerate(post.images):
        state = f"{image.width} x {image.height} px" if image.ok else f"{image.state}: {safe_text(image.reason)}"
        yield f"{index}  {safe_text(image.name, 80)}  {state}"


def _phrase_table(details: PostDetails) -> Table:
    table = _table("noun phrases", "words", "phrase", "label", "box", "score")
    by_span = {one.span: one for one in details.boxes if one.source == "phrase"}
    for phrase in details.phrases.phrases if details.phrases else ():
        region = by_span.get(phrase.span)
        box, score = (_corners(region.box), f"{region.score:.3f}") if region else ("–", "–")
        _row(table, f"{phrase.span.start}–{phrase.span.end}", safe_text(phrase.text, 80), phrase.label, box, score)
    return table


def _box_table(details: PostDetails) -> Table:
    table = _table("boxes", "source", "text", "box", "score", "clamped", "grounder")
    for one in details.boxes:
        clamped, grounder = "yes" if one.clamped else "", safe_text(one.grounder, 80)
        _row(table, one.source, safe_text(one.text, 80), _corners(one.box), f"{one.score:.3f}", clamped, grounder)
    return table


def _object_table(details: PostDetails) -> Table:
    columns = ("source", "text", "head", "tail", "box", "score", *(["lattice"] if details.cut_note else []))
    table = _table(details.cut_note or "objects of the lattice", *columns)
    for one in details.objects:
        region = one.region
        score = f"{region.score:.3f}"
        cells = (region.source, safe_text(region.text, 80), one.head, one.tail, _corners(region.box), score)
        _row(table, *cells, *(["cut" if one.cut else ""] if details.cut_note else []))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=Text(f"\n{title}", "dim"), title_justify="left", box=None, pad_edge=False, header_style="underline"
    )
    for name in columns:
        table.add_column(name, justify="right" if name in ("head", "tail", "score") else "left", overflow="fold")
    return table


def _row(table: Table, *cells: object) -> None:
    table.add_row(*(Text(safe_text(cell)) for cell in cells))  # Text: rich does not interpret markup in it


def _corners(box: Box | None) -> str:
    return "no image" if box is None else f"{box.image_index}: ({box.x0}, {box.y0})–({box.x1}, {box.y1})"


def _images(details: PostDetails, load_image: Loader, columns: int) -> Iterator[Text]:
    for index, image in enumerate(details.post.images):
        loaded = load_or_none(load_image, image.name, image.digest) if image.ok else None
        if loaded is not None:
            own = (one for one in details.boxes if one.image_index == index)
            boxes = [(one.box.xyxy, _rgb(details, one)) for one in own if one.box]
            yield half_blocks(with_boxes(loaded, boxes, columns, line_px=1))


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


def _rgb(details: PostDetails, region: Region) -> Color:
    labels = details.labels
    names = [name for name, word in labels.words.items() if word == region.text and region.source == "general"]
    if not names and region.span:
        names = [one.type for one in entities(details.post.tags or ()) if one.span.overlaps(region.span)]
    index = next((labels.types.index(name) for name in names if name in labels.types), None)
    return GRAY if index is None else RGB[index % len(RGB)]
