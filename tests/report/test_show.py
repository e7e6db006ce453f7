import io
import re

import numpy as np
import pytest
from rich.console import Console

from report import show
from schema.labels import DEFAULT_LABELS
from schema.records import Box, Image, Phrase, Post, PostPhrases, Region, Span, joined
from tests.report.examples import pil_image

HOSTILE = (
    "\x1b[31mred\x1b[0m",
    "[bold]not",
    "markup[/bold]",
    "\u202eevil",
    ":smile:",
    "w" * 5000,
    "=cmd()",
    "<script>alert(1)</script>",
)
BOX = (20, 10, 100, 70)


def shown(words=("tiny", "Ada", "Lovelace", "smiles"), tags=("O", "B-PER", "I-PER", "O"), **options):
    text, offsets = joined(words)
    post = Post(
        "post-1",
        "dev",
        words,
        text,
        offsets,
        tags,
        (Image("a.png", "d", 160, 80), Image("b.png", state="broken", reason="cut")),
    )
    grounded = (
        Region("general", "person", None, Box(0, 0, 40, 40), 0.25, False, "g"),
        Region("phrase", words[0], Span(0, 3), Box(*BOX), 0.75, True, "owlv2@0123"),
    )
    regions = (Region("image", "", None, Box(0, 0, 160, 80), 1.0), *grounded)
    phrases = PostPhrases("post-1", (Phrase(Span(0, 3), " ".join(words[:3])),), "split")
    view = (tuple((word, at) for at, word in enumerate(words[1:], 1)),)
    return show.PostDetails(post, DEFAULT_LABELS, view, phrases, grounded, regions, **options)


def load(name, digest):
    return pil_image((160, 80), [BOX])


def printed(value, width=100, **options):
    file = io.StringIO()
    console = Console(file=file, width=width, **options)
    show.to_terminal(value, console, load_image=load)
    return file.getvalue()


def test_a_terminal_shows_words_normalized_words_phrases_and_objects():
    text = printed(shown(synthetic=True))
    assert "tiny Ada Lovelace[PER] smiles" in text
    assert "dropped: tiny" in text
    assert "fallback: split" in text
    assert "b.png  broken: cut" in text
    assert "synthetic models" in text
    assert re.search(r"0–3 +tiny Ada Lovelace +NP +0: \(20, 10\)–\(100, 70\) +0\.750", text)
    assert re.search(r"general +person +0: \(0, 0\)–\(40, 40\) +0\.250 +g", text)  # each box with where it comes from
    assert re.search(r"phrase +tiny +0: \(20, 10\)–\(100, 70\) +0\.750 +yes +owlv2@0123", text)
    assert re.search(r"image +1 +4 +0: \(0, 0\)–\(160, 80\) +1\.000", text)
    assert re.search(r"phrase +tiny +1 +3 +0: \(20, 10\)", text)
    assert "\x1b" not in text  # no terminal, no colours, no image
    assert "▀" not in text


@pytest.mark.parametrize("colours", [None, "truecolor"])
def test_a_hostile_post_cannot_control_the_terminal(colours):
    value = shown(HOSTILE, None)
    text = printed(value, force_terminal=colours is not None, color_system=colours, no_color=colours is None)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", text)  # what rich itself writes
    assert not set("\x1b\x07\x9b\u202e") & set(bare)
    assert "[31mred[0m" in bare
    assert "\x1b[31mred" not in text
    wide = re.sub(r"\x1b\[[0-9;]*m", "", printed(value, width=400))
    assert wide.count("[bold]not markup[/bold]") == 3  # in the sentence, the normalized words and the table of phrases
    assert ":smile:" in bare
    assert "w" * 5000 not in bare.replace("\n", "")
    assert max(map(len, bare.splitlines())) <= 100


def test_an_image_on_a_terminal_has_the_box_at_its_position():
    value = shown()
    image = show.with_boxes(load("", ""), [(BOX, (255, 0, 0))], 64)
    text = show.half_blocks(image)
    lines = text.plain.splitlines()
    assert [len(line) for line in lines] == [64] * 16
    red = np.array([["#ff0000" in str(text.spans[64 * y + x].style) for x in range(64)] for y in range(16)])
    ys, xs = np.nonzero(red)
    assert (xs.min(), xs.max() + 1) == (8, 40)  # 20 and 100 of 160 px on 64 columns
    assert (ys.min(), ys.max() + 1) == (2, 14)  # 10 and 70 of 80 px on 16 lines
    assert "▀" in printed(value, force_terminal=True, color_system="truecolor")


def test_no_color_means_no_color_and_no_image(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(shown(), force_terminal=True, color_system="truecolor")
    assert "▀" not in text
    assert not re.search(r"\x1b\[[0-9;]*(3[0-9]|4[0-9]|9[0-7])[0-9;]*m", text)
    assert "tiny" in text


def test_objects_beyond_the_cap_are_marked(tmp_path):
    """Of a whole image, a general word and a phrase, a cap of 2 cuts the general word."""
    capped = shown(max_objects=2)
    text = printed(capped)
    assert "1 of 3 objects are not in the lattice (train.max_objects: 2)" in text
    assert re.search(r"general +person +1 +4 .* 0\.250 +cut", text)
    assert len(re.findall(r" cut$", text, re.M)) == 1
    show.write_html(capped, tmp_path / "post.html", load_image=load)
    page = (tmp_path / "post.html").read_text(encoding="utf-8")
    assert "2 objects; 1 of 3 objects are not in the lattice" in page
    assert page.count("<td>cut</td>") == 1
    assert page.count("bar general cut") == 1
    assert "not in the lattice" not in printed(shown(max_objects=3))


def test_a_page_of_one_post(tmp_path):
    show.write_html(shown(synthetic=True), tmp_path / "post.html", load_image=load)
    page = (tmp_path / "post.html").read_text(encoding="utf-8")
    assert "20, 10 – 100, 70" in page
    assert re.search(r"<td>phrase</td><td><bdi>tiny</bdi></td><td class=\"num\">1</td><td class=\"num\">3</td>", page)
    assert re.search(r"0\.750</td><td>yes</td><td><bdi>owlv2@0123</bdi></td></tr>", page)
    assert re.search(r"0\.250</td><td></td><td><bdi>g</bdi></td></tr>", page)
    assert "Synthetic models." in page
    assert "data:image/jpeg" in page
    assert "fallback split" in page


def test_a_hostile_post_is_text_on_its_page(tmp_path):
    show.write_html(shown(HOSTILE, None), tmp_path / "post.html", load_image=load)
    page = (tmp_path / "post.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert page.count("<script") == 2  # the data block and our own
    assert "\u202e" not in page


def test_a_redacted_page_has_no_names_and_images(tmp_path):
    value = shown(("with", "@", "zebulon", "http://t.co/x"), None)
    show.write_html(value, tmp_path / "post.html", load_image=load, redact=True)
    page = (tmp_path / "post.html").read_text(encoding="utf-8")
    for secret in ("zebulon", "t.co/", "data:image/jpeg", "a.png", "owlv2@"):  # the last stands beside phrases' texts
        assert secret not in page
