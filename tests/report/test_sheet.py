import json
import re

import numpy as np
import pytest

from report import sheet
from schema.labels import DEFAULT_LABELS
from schema.records import Box, Grounded, Image, Post, Span, joined
from tests.report.made import picture

BOX = (20, 10, 100, 70)


def posts(n):
    text, offsets = joined(("tiny", "Ada"))
    return [Post(f"post-{at}", "train", ("tiny", "Ada"), text, offsets, None, (image(at),)) for at in range(n)]


def image(at):
    state = ("ok", "missing", "ok", "refused")[at % 4]
    return Image(f"{at}.png", f"d{at}", 160, 80) if state == "ok" else Image(f"{at}.png", state=state)


def grounded(found):
    return [
        Grounded(post.id, "phrase", "tiny Ada", Span(0, 2), Box(*BOX), 0.5, False, "g")
        for post in found
        if post.images[0].ok
    ]


def load(name, digest):
    return picture((160, 80), [BOX])


def test_only_readable_pictures_are_picked_in_order_and_the_same_ones():
    found = posts(40)
    assert sheet.pick(found, 100) == found[::2]
    chosen = sheet.pick(found, 5)
    assert chosen == sheet.pick(found, 5)
    assert [found.index(post) for post in chosen] == sorted(found.index(post) for post in chosen)
    assert len(chosen) == 5


def test_boxes_are_drawn_in_each_cell_where_the_table_says():
    found = posts(6)
    drawing = sheet.draw(found, grounded(found), load_image=load, columns=2)
    assert drawing.size == (10 + 2 * 250, 10 + 2 * 266)
    pixels = np.asarray(drawing)
    for column, row in ((0, 0), (1, 0), (0, 1)):
        left, top = 10 + 250 * column, 10 + 266 * row
        cell = (pixels[top : top + 80, left : left + 160] == sheet.PHRASE).all(axis=2)  # never enlarged: 160 x 80
        ys, xs = np.nonzero(cell)
        assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == BOX
    assert (pixels[10 + 266 : 10 + 346, 260:420] == sheet.PAPER).all()  # the fourth cell is empty


def test_a_picture_that_is_gone_leaves_an_empty_cell():
    drawing = sheet.draw(posts(1), [], load_image=lambda name, digest: None)
    assert (np.asarray(drawing)[10:200, 10:200] == sheet.PAPER).all()


@pytest.mark.parametrize("redact", [False, True])
def test_a_page_of_the_sheet(tmp_path, redact):
    found = posts(20)
    out = tmp_path / "sheet.html"
    sheet.write_html(
        found,
        grounded(found),
        DEFAULT_LABELS,
        out,
        title="<b>photos",
        load_image=load,
        synthetic=True,
        redact=redact,
        n=6,
    )
    page = out.read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert len(data["posts"]) == 6
    assert all(post["boxes"][0][5:9] == list(BOX) for post in data["posts"])
    assert "6 of 10 posts with pictures, of 20 in all" in page
    assert "&lt;b&gt;photos" in page
    assert "Toy parts." in page
    assert ("data:image/jpeg" in page) is not redact
