"""Self-contained HTML pages: one file with style, scripts and images, and a policy that forbids network requests.

Text from posts is untrusted: nothing in it can run, control a terminal or change the reading direction.
"""

import base64
import functools
import hashlib
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import PIL.Image
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from cache import atomic
from schema.errors import RunError
from schema.records import Image
from schema.text import safe_text

WORD_CHARS = 80  # longest word that is shown whole: no natural word is longer, and it fits on a line
BLANK = "␣"  # shown for an invisible word
MAX_PAGE_BYTES = 20_000_000
VALUE_CHARS = 2000  # longest value that a template shows whole
TEMPLATES = Path(__file__).parent / "templates"
HIDDEN_NAME, HIDDEN_LINK = "@…", "[link]"
STEPS = ((560, 82), (420, 80), (320, 78), (240, 74), (180, 68), (132, 60))  # (longer side in px, JPEG quality)
IMAGE_BUDGET = 13_000_000  # bytes of data URIs on a page

Loader = Callable[[str, str], PIL.Image.Image | None]  # (name, sha256) -> decoded RGB; None: missing or changed

_LINK = re.compile(
    r"(?:https?\b|ftp\b|www\.)\S*|\S*//\S*"
    r"|(?<![@\w.-])[\w-]+(?:\.[\w-]+)*\.(?:[a-z]{2,}/\S*|(?:com|org|net|edu|gov|info|co|uk|de|fr|io|ly|tv|me|gl|be)\b)",
    re.IGNORECASE,
)
_NAME = re.compile(r"[\w.+-]*@[\w.@-]*")  # also addresses of mail and of other networks


def safe_word(word: str) -> str:
    """A word to show: safe, at most `WORD_CHARS` characters, and visible."""
    text = safe_text(word, WORD_CHARS)
    is_visible = any(unicodedata.category(char) not in ("Zs", "Cf", "Cn", "Mn", "Me") for char in text)
    return text if is_visible else BLANK


def redacted(words: Sequence[str]) -> tuple[str, ...]:
    """The words with @names and links hidden, also split ones (`@ name _`, `http : //t.co/x`), in doubt too many."""
    result: list[str] = []
    expected = ""  # what continues a split name: a "name" after `@` or `_`, "_" after a part of a name
    for word in words:
        plain = unicodedata.normalize("NFKC", safe_text(word, None))
        is_underscore = bool(plain) and not plain.strip("_")
        if (expected == "name" and re.fullmatch(r"\w+", plain)) or (expected == "_" and is_underscore):
            result.append("…")
            expected = "name" if is_underscore else "_"
            continue
        hidden = _NAME.sub(HIDDEN_NAME, _LINK.sub(HIDDEN_LINK, plain))
        result.append(hidden if hidden != plain else word)
        expected = "name" if plain.endswith("@") else "_" if re.search(r"@\w+$", plain) else ""
    return tuple(result)


def write_page(out: Path, template: str, scripts: tuple[str, ...], **values: object) -> None:
    """Render a template with its style and scripts, and publish it; values are made safe (`finalize`), then escaped."""
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    script = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in scripts)
    parts = {"style": Markup(style), "script": Markup(script), "policy": policy(style, script)}
    data = environment().get_template(template).render(parts | values).encode("utf-8")
    if len(data) > MAX_PAGE_BYTES:
        raise RunError("page too large", where=str(out), found=f"{len(data)} bytes", todo="show fewer posts (--posts)")
    atomic.write_bytes(out, data)


def policy(style: str, script: str) -> str:
    """Content security policy: only this style, this script and images from `data:`, so nothing in a post can run."""
    digests = [base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


def script_json(value: object) -> Markup:
    """JSON for a data block: `<`, `>`, `&` and `'` are escaped, so that no text can end the block."""
    return htmlsafe_json_dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@functools.cache
def environment() -> jinja2.Environment:
    """The report's templates: everything is escaped, and an unknown name is an error."""

    def finalize(value: object) -> object:
        return safe_text(value, VALUE_CHARS) if isinstance(value, str) and not isinstance(value, Markup) else value

    options: dict[str, Any] = {"autoescape": True, "undefined": jinja2.StrictUndefined, "finalize": finalize}
    options |= {"trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), **options)
    environment.filters |= {"px": "{:.2f}".format, "number": "{:,}".format}
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    return environment


def thumbnails(images: Iterable[Image], load: Loader, budget: int = IMAGE_BUDGET) -> dict[str, str]:
    """Data URIs by digest (by name if there is none) of the images that can be loaded and fit the budget."""
    distinct = {image.digest or image.name: image for image in images}
    uris: dict[str, str] = {}
    for n_done, (key, image) in enumerate(distinct.items()):
        share = budget // (len(distinct) - n_done)
        loaded = load(image.name, image.digest) if share > 0 else None
        if loaded and (uri := data_uri(loaded, share)):
            uris[key] = uri
            budget -= len(uri)
    return uris


def data_uri(image: PIL.Image.Image, max_bytes: int) -> str | None:
    """The largest thumbnail of `STEPS` with at most `max_bytes`, as a data URI; None if even the smallest has more."""
    for side, quality in STEPS:
        file = io.BytesIO()
        shrunk(image, side).save(file, "JPEG", quality=quality, optimize=True)
        uri = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
        if len(uri) <= max_bytes:
            return uri
    return None


def shrunk(image: PIL.Image.Image, side: int) -> PIL.Image.Image:
    """An RGB copy whose longer side has at most `side` pixels, without metadata."""
    copy = image.convert("RGB")
    copy.info = {}
    copy.thumbnail((side, side), PIL.Image.Resampling.LANCZOS, reducing_gap=None)
    return copy
