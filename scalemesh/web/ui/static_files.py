"""Serves the files of the dashboard under a path that carries the hash of them all, so they are cached for ever."""

import mimetypes
from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Final

from aiohttp import web

FOREVER: Final = "public, max-age=31536000, immutable"
TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class StaticFiles:
    """A handful of small files, in memory. One hash for all: a module's relative import stays within its version."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self._contents = contents
        digest = sha256()
        for name, content in sorted(contents.items()):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        self._version = digest.hexdigest()[:12]

    @classmethod
    def of_package(cls) -> "StaticFiles":
        folder = files("scalemesh.web.ui") / "static"
        return cls({file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()})

    def url(self, name: str) -> str:
        """Where *name* is served.

        Raises:
            KeyError: there is no such file; a mistake in a template.
        """
        if name not in self._contents:
            raise KeyError(name)
        return f"/static/{self._version}/{name}"

    def table(self) -> list[web.RouteDef]:
        return [web.get("/static/{version}/{name}", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        content = self._contents.get(name)
        if content is None or request.match_info["version"] != self._version:
            raise web.HTTPNotFound
        suffix = name[name.rfind(".") :]
        kind = TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        headers = {"Cache-Control": FOREVER, "X-Content-Type-Options": "nosniff"}
        return web.Response(body=content, content_type=kind, charset="utf-8", headers=headers)
