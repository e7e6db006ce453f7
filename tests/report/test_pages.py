import base64
import hashlib
import json
import re

import pytest

from report.pages import environment, policy, script_json, write_page
from schema.errors import RunError


def test_the_policy_allows_only_the_digests_of_the_page():
    found = dict(part.strip().split(" ", 1) for part in policy("body{}", "go()").split(";"))
    digest = base64.b64encode(hashlib.sha256(b"go()").digest()).decode()
    assert found["default-src"] == "'none'"
    assert found["script-src"] == f"'sha256-{digest}'"
    assert found["img-src"] == "data:"
    assert "unsafe" not in policy("body{}", "go()")
    assert "http" not in policy("body{}", "go()")


def test_json_cannot_end_its_block_and_can_be_parsed():
    value = {"<script>": "</script><!-- ' & \u2028 \" ünïcode"}
    text = str(script_json(value))
    assert not set("<>&'") & set(text)
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json({"a": float("nan")})


def test_templates_escape_and_make_safe_everywhere():
    template = environment().from_string('<p title="{{ value }}">{{ value }}</p>')
    shown = template.render(value="\"><img src=x onerror=alert(1)>\u202e\x1b'")
    assert shown.count("<") == 2
    assert "\u202e" not in shown
    assert "\x1b" not in shown
    assert environment().autoescape is True


def test_a_page_that_is_too_large_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("report.pages.MAX_PAGE_BYTES", 100)
    with pytest.raises(RunError, match=r"page too large .*show fewer posts"):
        write_page(
            tmp_path / "page.html",
            "sheet.html.jinja",
            ("cards.js",),
            title="",
            synthetic=False,
            redact=False,
            summary="",
            data="",
        )
    assert not list(tmp_path.iterdir())


def test_the_policy_allows_the_style_and_script_of_the_page(tmp_path):
    out = tmp_path / "page.html"
    write_page(
        out,
        "sheet.html.jinja",
        ("cards.js", "sheet.js"),
        title="t",
        synthetic=False,
        redact=False,
        summary="",
        data="{}",
    )
    page = out.read_text(encoding="utf-8")
    style = re.search(r"<style>(.*?)</style>", page, re.S)[1]
    script = re.search(r"<script>(.*?)</script>", page, re.S)[1]
    stated = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    assert stated == policy(style, script)
