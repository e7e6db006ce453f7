"""Pages that stand alone: one file, styles and scripts inside, and a policy that lets the browser ask nobody.

Text from posts is not ours: what controls a terminal, a reading direction or a spreadsheet never gets through.
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

WORD_CHARS = 80  # longest word that is shown whole; no natural word is longer, and a line of a page holds as much
BLANK = "␣"  # stands for a word of which nothing can be seen, so that its place stays visible
HIDDEN_NAME, HIDDEN_LINK = "@…", "[link]"

_LINK = re.compile(
    r"(?:https?\b|ftp\b|www\.)\S*|\S*//\S*"
    r"|(?<![@\w.-])[\w-]+(?:\.[\w-]+)*\.(?:[a-z]{2,}/\S*|(?:com|org|net|edu|gov|info|co|uk|de|fr|io|ly|tv|me|gl|be)\b)",
    re.IGNORECASE,
)
_NAME = re.compile(r"[\w.+-]*@[\w.@-]*")  # an address of mail or of another network too


def safe_word(word: str) -> str:
    """A word to show: safe, cut to `WORD_CHARS`, and never invisible."""
    shown = safe_text(word, WORD_CHARS)
    return shown if any(_leaves_a_mark(char) for char in shown) else BLANK


def redacted(words: Sequence[str]) -> tuple[str, ...]:
    """The words with @names and links hidden, as many as before; a name that the tokenizer split is hidden whole.

    Some corpora split `@name_` into `@ name _`, and `http://t.co/x` into `http : //t.co/x`. In doubt a word is hidden.
    """
    shown: list[str] = []
    awaited = ""  # what continues a split name: a "name" after a lone `@` or a joint, a "joint" after a part of a name
    for word in words:
        plain = unicodedata.normalize("NFKC", safe_text(word, None))
        is_joint = bool(plain) and not plain.strip("_")
        if (awaited == "name" and re.fullmatch(r"\w+", plain)) or (awaited == "joint" and is_joint):
            shown.append("…")
            awaited = "name" if is_joint else "joint"
            continue
        hidden = _NAME.sub(HIDDEN_NAME, _LINK.sub(HIDDEN_LINK, plain))
        shown.append(hidden if hidden != plain else word)
        awaited = "name" if plain.endswith("@") else "joint" if re.search(r"@\w+$", plain) else ""
    return tuple(shown)


def _leaves_a_mark(char: str) -> bool:
    return unicodedata.category(char) not in ("Zs", "Cf", "Cn", "Mn", "Me")


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
