"""The sites that all contenders serve: the same bytes from the same host names.

Page, asset and film do not compress, so that every contender negotiates the encoding (each request asks for one) and
then sends what the row's name says. Only the style sheet has encoded variants.
"""

import base64
import random
from importlib import import_module
from pathlib import Path
from typing import Final

HOSTS: Final = 200
BASE: Final = "localhost"
PAGE_BYTES: Final = 2048
ASSET_BYTES: Final = 60 * 1024
FILM_BYTES: Final = 1024 * 1024
STYLE_BYTES: Final = 20 * 1024
LOST_BYTES: Final = 900  #: of the 404 page: under what is worth an encoding

PAGE: Final = "index.html"
ASSET: Final = "assets/index-B4x9Kq2Z.js"
FILM: Final = "film.mp4"
STYLE: Final = "style.css"
LOST: Final = "404.html"
RULES: Final = "_redirects"
WORDS: Final = ("color", "margin", "padding", "border", "display", "width", "inherit", "solid", "block", "#1a2b3c")


def project(number: int) -> str:
    """The name of a site's project."""
    return f"bench-{number}x"


def host(number: int) -> str:
    """The name that visitors use."""
    return f"{project(number)}.{BASE}"


def site(number: int) -> dict[str, bytes]:
    """The files of one site, path -> content; the same in every run."""
    drawn = random.Random(number)
    return {
        PAGE: page(f"Site {number}", drawn),
        ASSET: _noise(f"// {number}\n", ASSET_BYTES, drawn),
        FILM: drawn.randbytes(FILM_BYTES),
        STYLE: _style(drawn),
        LOST: _noise(f"<!doctype html><title>Lost in {number}</title>", LOST_BYTES, drawn),
        RULES: b"/old/* /new/:splat 301\n",
    }


def page(title: str, drawn: random.Random) -> bytes:
    """An HTML page of PAGE_BYTES."""
    return _noise(f"<!doctype html><title>{title}</title><p>", PAGE_BYTES, drawn)


def encoded(content: bytes) -> bytes:
    """What the brotli variant of *content* is, at its best."""
    return bytes(import_module("brotli").compress(content, quality=11))


def decoded(content: bytes) -> bytes:
    """The opposite of ``encoded``."""
    return bytes(import_module("brotli").decompress(content))


def write(folder: Path, count: int) -> None:
    """Lay the sites out as servers of files want them: a folder for each host, variants beside the style sheet."""
    for number in range(count):
        for path, content in site(number).items():
            if path == RULES:
                continue
            target = folder / host(number) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            if path == STYLE:
                target.with_name(f"{target.name}.br").write_bytes(encoded(content))


def _style(drawn: random.Random) -> bytes:
    text = ""
    while len(text) < STYLE_BYTES:
        name = base64.b32encode(drawn.randbytes(5)).decode()
        text += f".{name} {{ {drawn.choice(WORDS)}: {drawn.choice(WORDS)} {drawn.randrange(100)}px }}\n"
    return text.encode()[:STYLE_BYTES]


def _noise(beginning: str, size: int, drawn: random.Random) -> bytes:
    """*beginning*, then bytes that no encoder makes smaller."""
    return beginning.encode() + drawn.randbytes(size - len(beginning))
