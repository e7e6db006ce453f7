import json
import re

import pytest

from report import sheet
from schema.labels import DEFAULT_LABELS
from schema.records import Box, Image, Post, Region, Span, joined
from tests.report.made import pil_image

BOX = (20, 10, 100, 70)


def posts(n):
    text, offsets = joined(("tiny", "Ada"))
    return [Post(f"post-{at}", "train", ("tiny", "Ada"), text, offsets, None, (image(at),)) for at in range(n)]


def image(at):
    state = ("ok", "missing", "ok", "refused")[at % 4]
    return Image(f"{at}.png", f"d{at}", 160, 80) if state == "ok" else Image(f"{at}.png", state=state)


def grounded(found):
    region = Region("phrase", "tiny Ada", Span(0, 2), Box(*BOX), 0.5, False, "g")
    return {post.id: [region] for post in found if post.images[0].ok}


def load(name, digest):
    return pil_image((160, 80), [BOX])


def test_only_readable_images_are_picked_in_order_and_the_same_ones():
    found = posts(40)
    assert sheet.select(found, 100) == found[::2]
    chosen = sheet.select(found, 5)
    assert chosen == sheet.select(found, 5)
    assert [found.index(post) for post in chosen] == sorted(found.index(post) for post in chosen)
    assert len(chosen) == 5


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
    assert "6 of 10 posts with images; 20 posts in all" in page
    assert "&lt;b&gt;photos" in page
    assert "Synthetic parts." in page
    assert ("data:image/jpeg" in page) is not redact
