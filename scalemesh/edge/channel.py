"""The words between the daemon and its serving workers: one JSON object a message, behind its length.

To a worker: routes of a project, or that it is gone, or which store the blobs have moved to, each with a number. From
it: which numbers it has followed, and which answers it gave.
"""

import asyncio
import json
import struct
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

from scalemesh.values import DeploymentId, Digest, HostKind, ProjectId, Route, State

LENGTH: Final = struct.Struct("!I")
MAX_MESSAGE: Final = 64 * 1024 * 1024
PACKET_BYTES: Final = 60_000  #: of a connection's bytes in one packet; a socket of packets takes no more at once
COLUMNS: Final = tuple(field.name for field in fields(Route))


def packed(message: dict[str, Any]) -> bytes:
    """*message* as it goes through a channel."""
    data = json.dumps(message, separators=(",", ":")).encode()
    return LENGTH.pack(len(data)) + data


async def read_message(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message; None at the end of the channel."""
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        if length > MAX_MESSAGE:
            return None
        found: dict[str, Any] = json.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return found


def routes_message(number: int, project: ProjectId, generation: int, routes: Sequence[Route]) -> dict[str, Any]:
    """Tell the routes of *project*, whose host belongs to all of them."""
    rows = [[getattr(route, name) for name in COLUMNS] for route in routes]
    return {"n": number, "project": project, "generation": generation, "routes": rows}


def read_routes(rows: Sequence[Sequence[Any]]) -> list[Route]:
    """The routes of a message."""
    return [_route(dict(zip(COLUMNS, row, strict=True))) for row in rows]


def _route(row: dict[str, Any]) -> Route:
    waiting = row["waiting"]
    return Route(
        host=row["host"],
        kind=HostKind(row["kind"]),
        project=ProjectId(row["project"]),
        project_name=row["project_name"],
        deployment=None if row["deployment"] is None else DeploymentId(row["deployment"]),
        manifest=None if row["manifest"] is None else Digest(row["manifest"]),
        waiting=None if waiting is None else State(waiting),
        encodings=None if row["encodings"] is None else Digest(row["encodings"]),
        window=None if row["window"] is None else Digest(row["window"]),
    )
