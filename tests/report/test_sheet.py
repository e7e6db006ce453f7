import json
import re

import pytest

from report.posts import write_sheet
from schema.labels import DEFAULT_LABELS
from schema.records import Box, Image, Post, Region, Span, joined
from tests.report.examples import pil_image

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


def page_of(found, path, **options):
    """The page of a sheet, and its data."""
    write_sheet(found, grounded(found), DEFAULT_LABELS, path, load_image=load, **options)
    page = path.read_text(encoding="utf-8")
    return page, json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


def test_only_posts_with_readable_images_are_shown_in_order_and_the_same_ones_every_time(tmp_path):
    def shown(n):
        return [post["id"] for post in page_of(found, tmp_path / "sheet.html", title="t", n=n)[1]["posts"]]

    found = posts(40)
    assert shown(100) == [post.id for post in found[::2]]
    five = shown(5)
    assert len(five) == 5
    assert five == shown(5)
    assert five == [post.id for post in found if post.id in five]


@pytest.mark.parametrize("redact", [False, True])
def test_a_page_of_the_sheet(tmp_path, redact):
    path = tmp_path / "sheet.html"
    page, data = page_of(posts(20), path, title="<b>photos", synthetic=True, redact=redact, n=6)
    assert len(data["posts"]) == 6
    assert all(post["boxes"][0][5:9] == list(BOX) for post in data["posts"])
    assert "6 of 10 posts with images; 20 posts in all" in page
    assert "&lt;b&gt;photos" in page
    assert "Synthetic models." in page
    assert ("data:image/jpeg" in page) is not redact
