"""Self-contained HTML pages: one file with style and scripts, and a policy that forbids network requests.

Text from posts is untrusted: nothing in it can run, control a terminal or change the reading direction.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import jinja2
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from cache import atomic
from schema.errors import RunError
from schema.text import safe_text

WORD_CHARS = 80  # longest word that is shown whole: no natural word is longer, and it fits on a line
BLANK = "␣"  # shown for an invisible word
MAX_PAGE_BYTES = 20_000_000
VALUE_CHARS = 2000  # longest value that a template shows whole
TEMPLATES = Path(__file__).parent / "templates"
HIDDEN_NAME, HIDDEN_LINK = "@…", "[link]"

_LINK = re.compile(
    r"(?:https?\b|ftp\b|www\.)\S*|\S*//\S*"
    r"|(?<![@\w.-])[\w-]+(?:\.[\w-]+)*\.(?:[a-z]{2,}/\S*|(?:com|org|net|edu|gov|info|co|uk|de|fr|io|ly|tv|me|gl|be)\b)",
    re.IGNORECASE,
)
_NAME = re.compile(r"[\w.+-]*@[\w.@-]*")  # also addresses of mail and of other networks


def safe_word(word: str) -> str:
    """A word to show: safe, at most `WORD_CHARS` characters, and visible."""
    shown = safe_text(word, WORD_CHARS)
    return shown if any(map(_is_visible, shown)) else BLANK


def redacted(words: Sequence[str]) -> tuple[str, ...]:
    """As many words with @names and links hidden, also those that a tokenizer split; in doubt a word is hidden.

    Some corpora split `@name_` into `@ name _`, and `http://t.co/x` into `http : //t.co/x`.
    """
    shown: list[str] = []
    expected = ""  # what continues a split name: a "name" after `@` or `_`, "_" after a part of a name
    for word in words:
        plain = unicodedata.normalize("NFKC", safe_text(word, None))
        is_underscore = bool(plain) and not plain.strip("_")
        if (expected == "name" and re.fullmatch(r"\w+", plain)) or (expected == "_" and is_underscore):
            shown.append("…")
            expected = "name" if is_underscore else "_"
            continue
        hidden = _NAME.sub(HIDDEN_NAME, _LINK.sub(HIDDEN_LINK, plain))
        shown.append(hidden if hidden != plain else word)
        expected = "name" if plain.endswith("@") else "_" if re.search(r"@\w+$", plain) else ""
    return tuple(shown)


def _is_visible(char: str) -> bool:
    return unicodedata.category(char) not in ("Zs", "Cf", "Cn", "Mn", "Me")


def write_page(out: Path, template: str, scripts: tuple[str, ...], **values: object) -> int:
    """Render a template with the style and scripts included, and publish it; returns the number of bytes.

    Every value is made safe (`finalize`), then escaped (`autoescape`). The policy allows the style and the scripts by
    their digests and images from `data:` only, so nothing in a post can run.
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
    """Content security policy of a page with exactly this style and script."""
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
    """JSON for a data block: `<`, `>`, `&` and `'` are escaped, so that no text can end the block."""
    return htmlsafe_json_dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@functools.cache
def environment() -> jinja2.Environment:
    """The report's templates: everything is escaped, and an unknown name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters["number"] = "{:,}".format
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    return environment


def _finalize(value: object) -> object:
    return safe_text(value, VALUE_CHARS) if isinstance(value, str) and not isinstance(value, Markup) else value


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
