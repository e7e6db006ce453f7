"""Pages that stand alone: one file, styles and scripts inside, and a policy that lets the browser ask nobody."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path

import jinja2
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from cache import atomic
from report.safe import safe_text
from schema.errors import RunError

MAX_PAGE_BYTES = 20_000_000
VALUE_CHARS = 2000  # longest value that a template shows whole
TEMPLATES = Path(__file__).parent / "templates"


def write_page(out: Path, template: str, scripts: tuple[str, ...], **values: object) -> int:
    """Render a template with our style and the named scripts inside and publish it; returns its bytes.

    Every value is escaped (autoescape) and made safe first (`finalize`). The policy names the style and the script by
    their digests, so nothing else runs, whatever a post says; pictures come from `data:` alone.
    """
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    script = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in scripts)
    page = (
        environment()
        .get_template(template)
        .render(style=Markup(style), script=Markup(script), policy=policy(style, script), **values)
    )
    data = page.encode("utf-8")
    if len(data) > MAX_PAGE_BYTES:
        raise RunError("the page is too large", where=str(out), found=f"{len(data)} bytes", todo="lower the cap")
    atomic.write_bytes(out, data)
    return len(data)


def policy(style: str, script: str) -> str:
    """Content security policy of a page with exactly this style and this script."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        )
    )


def script_json(value: object) -> Markup:
    """JSON for a data block: `<`, `>`, `&` and `'` are written as escapes, so no text can end the block."""
    return htmlsafe_json_dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@functools.cache
def environment() -> jinja2.Environment:
    """Templates of this room: everything is escaped, and an unknown name is an error."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    found = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    found.filters["number"] = "{:,}".format
    found.filters["percent"] = lambda value: f"{100 * value:.1f}"
    return found


def _finalized(value: object) -> object:
    return safe_text(value, VALUE_CHARS) if isinstance(value, str) and not isinstance(value, Markup) else value


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
