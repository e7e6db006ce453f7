"""One post, all that the pipeline knows of it: on a terminal and as a page.

The lattice of a post as a figure: a column for each position of the text, a bar for each object, head to tail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from report.posts import Posts, line_of, n_pictures
from report.thumbnails import Album, Colour, Loader, load_or_none, with_boxes
from schema.labels import LabelSet, entities
from schema.lattice import object_span, within_cap
from schema.records import Box, Grounded, Post, PostPhrases, Region

ROW, NAMES, CHAR, PAD = 24, 190, 7.4, 12  # user units: a row, the column of names, a character, around a word
SHOWN_CHARS = 18  # of a word or an object's text


@dataclass(frozen=True, slots=True)
class Place:
    """An object and its positions in the lattice, those of its first and last word; 0 is [CLS], words are 1 to n.

    `cut`: the cap on objects (train.max_objects) leaves it out of the lattice.
    """

    region: Region
    head: int
    tail: int
    cut: bool = False


def places(regions: Sequence[Region], n_words: int, max_objects: int | None = None) -> list[Place]:
    """Positions of a post's objects, in their order, and which of them the cap cuts (None: no cap)."""
    n_kept = len(regions) if max_objects is None else max_objects
    kept = set(within_cap([region.source for region in regions], n_kept))
    return [
        Place(region, *object_span(region.span, n_words), cut=index not in kept) for index, region in enumerate(regions)
    ]


def figure(words: Sequence[str], found: Sequence[Place]) -> Markup:
    """Text cells in the first row, then an object a row, its bar over the columns head to tail, both included."""
    cells = ["[CLS]", *(safe_word(word) for word in words), "[SEP]"]
    shown = [safe_text(cell, SHOWN_CHARS) for cell in cells]
    edges = [float(NAMES), *(NAMES + x for x in accumulate(len(cell) * CHAR + PAD for cell in shown))]
    height = ROW * (len(found) + 2) + 6
    size = {"viewBox": f"0 0 {edges[-1] + 4:.0f} {height}", "width": f"{edges[-1] + 4:.0f}", "height": f"{height}"}
    svg = Tree.Element("svg", {**size, "role": "img", "class": "lattice"})
    add(svg, "title", text="objects over the words they stand at")
    for at, cell in enumerate(shown):
        middle = (edges[at] + edges[at + 1]) / 2
        add(svg, "line", "grid", x1=edges[at], x2=edges[at], y1=0, y2=height)
        add(svg, "text", "tick middle", text=f"{at}", x=middle, y=14)
        add(svg, "text", "cell middle", text=cell, x=middle, y=ROW + 12)
    for row, place in enumerate(found, 2):
        _bar(svg, place, row * ROW, edges)
    return Markup(Tree.tostring(svg, encoding="unicode"))


def _bar(svg: Tree.Element, place: Place, y: float, edges: Sequence[float]) -> None:
    name = place.region.text if place.region.source != "image" else "whole picture"
    add(svg, "text", "name", text=safe_text(name, SHOWN_CHARS + 6), x=4, y=y + 16)
    x0, x1 = edges[place.head], edges[place.tail + 1]
    kind = f"bar {place.region.source}{' cut' if place.cut else ''}"
    bar = add(svg, "rect", kind, x=x0 + 2, y=y + 4, width=x1 - x0 - 4, height=ROW - 8, rx=4)
    add(bar, "title", text=f"{name}: head {place.head}, tail {place.tail}{', cut' if place.cut else ''}")


# Names of the terminal's own colours, so that they suit its background; types take them in turn.
STYLES = ("bright_blue", "green", "yellow", "magenta", "red", "cyan")
RGB: tuple[Colour, ...] = ((40, 100, 230), (30, 150, 70), (220, 120, 20), (150, 70, 200), (200, 50, 90), (0, 150, 160))
PICTURE_COLUMNS = 64  # of a picture on a terminal; a character holds one pixel across, two down


@dataclass(frozen=True)
class Shown:
    """A post with what the stages made of it.

    `view` is the parse view: per sentence (word as the parser sees it, index of the post's word); None: not given.
    `regions` are the objects of the pack, in the lattice's order.
    """

    post: Post
    labels: LabelSet
    view: tuple[tuple[tuple[str, int], ...], ...] | None = None
    phrases: PostPhrases | None = None
    boxes: tuple[Grounded, ...] = ()
    regions: tuple[Region, ...] = ()
    synthetic: bool = False
    max_objects: int | None = None  # train.max_objects of the dataset; None: not known, so nothing is marked as cut

    @property
    def places(self) -> list[Place]:
        return places(self.regions, self.post.n_words, self.max_objects)

    @property
    def n_cut(self) -> int:
        """Objects that are not in the lattice."""
        return sum(place.cut for place in self.places)

    @property
    def cut_note(self) -> str:
        """A sentence about them; "" where none is cut."""
        if not self.n_cut:
            return ""
        n_cut, n_objects = self.n_cut, len(self.regions)
        return f"{n_cut} of {n_objects} objects are not in the lattice (train.max_objects: {self.max_objects})"


def write_html(shown: Shown, out: Path, *, load_image: Loader, redact: bool = False) -> None:
    """The post as a page of its own, under the same policy as the report's."""
    line = line_of(shown.post, shown.boxes)
    types = tuple(dict.fromkeys([*shown.labels.types, *(entity.type for entity in line.gold or ())]))
    general = {word: name for name, word in shown.labels.words.items()}
    posts = Posts(types, general, Album(load_image, n_pictures([line])), redact, judge=False)
    posts.add([line])
    hidden = [] if redact else shown.places  # texts of objects would tell what is hidden
    write_page(
        out,
        "post.html.jinja",
        ("cards.js", "post.js"),
        shown=shown,
        words=() if redact else shown.post.words,
        view=None if redact else shown.view,
        phrases=None if redact else shown.phrases,
        boxes=() if redact else shown.boxes,
        places=hidden,
        lattice=figure(shown.post.words, hidden) if hidden else None,
        redact=redact,
        data=script_json(posts.data()),
    )


def to_terminal(shown: Shown, console: Console, *, load_image: Loader | None = None) -> None:
    """Print the post: words with their labels, parse view, phrases, objects, and pictures where colours are there.

    Where NO_COLOR is set, rich prints no colour, and a picture would be a grey field: it is left out.
    """
    post = shown.post
    console.print(Text(f"{safe_text(post.id)}  {post.split}  {post.n_words} words", "bold"))
    if shown.synthetic:
        console.print(Text("synthetic parts: boxes and features come from parts trained on drawings", "yellow"))
    console.print(_sentence(shown))
    for name, lines in (("parse view", _view_lines(shown)), ("pictures", _image_lines(post))):
        console.print(Text(f"\n{name}", "dim"))
        for text in lines:
            console.print(Text(f"  {text}"))
    for table in (_phrase_table(shown), _box_table(shown), _object_table(shown)):
        console.print(table)
    if load_image is not None and console.color_system in ("256", "truecolor") and not console.no_color:
        for picture in _pictures(shown, load_image, min(PICTURE_COLUMNS, console.width - 2)):
            console.print(picture)


def _sentence(shown: Shown) -> Text:
    post, text = shown.post, Text()
    found = entities(post.tags or ())
    for at, word in enumerate(post.words):
        entity = next((one for one in found if one.span.start <= at < one.span.end), None)
        text.append(safe_word(word), _style(shown, entity.type) if entity else "")
        if entity and at == entity.span.end - 1:
            text.append(f"[{safe_text(entity.type)}]", "dim")
        text.append(" ")
    return text


def _style(shown: Shown, name: str) -> str:
    return f"bold {STYLES[shown.labels.types.index(name) % len(STYLES)]}" if name in shown.labels.types else "bold"


def _view_lines(shown: Shown) -> Iterator[str]:
    if shown.view is None:
        yield "not given"
        return
    for sentence in shown.view:
        yield " ".join(safe_word(word) for word, _ in sentence)
    kept = {index for sentence in shown.view for _, index in sentence}
    dropped = [safe_word(word) for at, word in enumerate(shown.post.words) if at not in kept]
    yield f"dropped: {' '.join(dropped)}" if dropped else "nothing dropped"
    if shown.phrases and shown.phrases.fallback:
        yield f"fallback: {safe_text(shown.phrases.fallback)}"


def _image_lines(post: Post) -> Iterator[str]:
    if not post.images:
        yield "none"
    for at, image in enumerate(post.images):
        state = f"{image.width} x {image.height} px" if image.ok else f"{image.state}: {safe_text(image.reason)}"
        yield f"{at}  {safe_text(image.name, 80)}  {state}"


def _phrase_table(shown: Shown) -> Table:
    table = _table("noun phrases", "words", "phrase", "label", "box", "score")
    boxes = {one.span: one for one in shown.boxes if one.source == "phrase"}
    for phrase in shown.phrases.phrases if shown.phrases else ():
        found = boxes.get(phrase.span)
        box, score = (_box(found.box), f"{found.score:.3f}") if found else ("–", "–")
        _row(table, f"{phrase.span.start}–{phrase.span.end}", safe_text(phrase.text, 80), phrase.label, box, score)
    return table


def _box_table(shown: Shown) -> Table:
    """Where each box comes from."""
    table = _table("boxes", "source", "text", "box", "score", "clamped", "grounder")
    for one in shown.boxes:
        clamped, grounder = "yes" if one.clamped else "", safe_text(one.grounder, 80)
        _row(table, one.source, safe_text(one.text, 80), _box(one.box), f"{one.score:.3f}", clamped, grounder)
    return table


def _object_table(shown: Shown) -> Table:
    columns = ("source", "text", "head", "tail", "box", "score", *(["lattice"] if shown.n_cut else []))
    table = _table(shown.cut_note or "objects of the lattice", *columns)
    for place in shown.places:
        region = place.region
        box = _box(region.box) if region.box else "no picture"
        state = [("cut" if place.cut else "") for _ in columns[6:]]
        cells = (safe_text(region.text, 80), place.head, place.tail, box, f"{region.score:.3f}", *state)
        _row(table, region.source, *cells)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=Text(f"\n{title}", "dim"), title_justify="left", box=None, pad_edge=False, header_style="underline"
    )
    for name in columns:
        table.add_column(name, justify="right" if name in ("head", "tail", "score") else "left", overflow="fold")
    return table


def _row(table: Table, *cells: object) -> None:
    table.add_row(*(Text(safe_text(cell)) for cell in cells))  # Text: no markup, whatever a post says


def _box(box: Box) -> str:
    return f"{box.image_index}: ({box.x0}, {box.y0})–({box.x1}, {box.y1})"


def _pictures(shown: Shown, load_image: Loader, columns: int) -> Iterator[Text]:
    """Pictures with their boxes in half blocks: the upper pixel is a character's colour, the lower its background."""
    for index, image in enumerate(shown.post.images):
        loaded = load_or_none(load_image, image.name, image.digest) if image.ok else None
        if loaded is None:
            continue
        boxes = [(one.box.xyxy, _rgb(shown, one)) for one in shown.boxes if one.box.image_index == index]
        yield blocks(with_boxes(loaded, boxes, columns, line_px=1))


def blocks(image: PIL.Image.Image) -> Text:
    """A picture in RGB as text, one column a pixel, one line two rows."""
    text, row = Text(), 3 * image.width
    rows = [image.tobytes()[at : at + row] for at in range(0, row * image.height, row)]
    for y in range(0, image.height, 2):
        upper, lower = rows[y], rows[min(y + 1, image.height - 1)]
        for at in range(0, row, 3):
            text.append("▀", Style(color=_hex(upper[at : at + 3]), bgcolor=_hex(lower[at : at + 3])))
        text.append("\n")
    return text


def _rgb(shown: Shown, found: Grounded) -> Colour:
    names = [name for name, word in shown.labels.words.items() if word == found.text and found.source == "general"]
    if not names and found.span:
        names = [one.type for one in entities(shown.post.tags or ()) if one.span.overlaps(found.span)]
    known = [name for name in names if name in shown.labels.types]
    return RGB[shown.labels.types.index(known[0]) % len(RGB)] if known else (90, 90, 100)


def _hex(pixel: bytes) -> str:
    return f"#{pixel.hex()}"
