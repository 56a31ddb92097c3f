"""``disk`` and ``gc``: what uses the room, and throwing away what nothing keeps."""

import time
from collections.abc import Sequence
from typing import Any, Final

import click

from scalemesh import amounts
from scalemesh.cli.output import FAILED, examples, facts, json_option, say, show_json, table
from scalemesh.cli.server import client, place_options

POLL_S: Final = 1.0
BAR: Final = 20  #: characters
KINDS: Final = {
    "files": "files of deployments and of their sources",
    "variants": "compressed variants of files",
    "lists": "manifests and lists of files",
    "windows": "asset windows",
    "caches": "build caches",
    "unheld": "let go, and removed after a while",
    "uploads": "uploads under way",
    "logs": "logs",
    "database": "main database",
    "local_cache": "local cache of the store",
}
PARTS: Final = {
    "local_cache": "local caches of former stores",
    "caches": "build caches",
    "deployments": "deployments that no rule keeps",
    "logs": "logs whose time is over",
    "uploads": "uploads that nobody waits for",
    "blobs": "blobs that nobody holds",
}


@click.command(epilog=examples("scalemesh disk"))
@json_option
@place_options
@click.pass_context
def disk(ctx: click.Context, /, *, as_json: bool) -> None:
    """Show what uses how much room, by kind and by project."""
    found = client(ctx).get("/api/v1/disk")
    if as_json:
        show_json(found)
        return
    facts([fact for volume in found["volumes"] for fact in _volume(volume, found["high_water_percent"])])
    kinds = [one for one in found["kinds"] if one["size_bytes"] or one["count"]]
    click.echo()
    _table_of_kinds(kinds)
    if found["projects"]:
        click.echo()
        heads = ["PROJECT", "SIZE", "FILES", "VARIANTS", "LISTS", "WINDOW", "CACHES"]
        table(heads, [_project(one) for one in found["projects"]], folding="PROJECT")
    if found["shared_bytes"]:
        click.echo(f"{size(found['shared_bytes'])} are shared between projects: there once, and told for each of them")


@click.command(epilog=examples("scalemesh gc --dry-run", "scalemesh gc"))
@click.option("--dry-run", is_flag=True, help="Only tell what would go.")
@json_option
@place_options
@click.pass_context
def gc(ctx: click.Context, /, *, dry_run: bool, as_json: bool) -> int:
    """Throw away now what no rule keeps: deployments, logs, uploads, blobs.

    It happens every hour by itself. Exit code 1: not all of it could be done.
    """
    talk = client(ctx)
    found = talk.post("/api/v1/gc", {"dry_run": dry_run})
    wanted, told = found.get("round", 0), set[str]()
    while found.get("running"):
        _tell_progress(found, told)
        time.sleep(POLL_S)
        found = talk.get("/api/v1/gc")
        found["running"] = found["running"] or found["round"] < wanted
    if as_json:
        show_json(found)
    else:
        _show(found, dry_run=dry_run)
    return FAILED if any(one["error"] for one in found["parts"]) else 0


def size(count: int | None) -> str:
    return "" if count is None else amounts.size(count)


def bar(part: float) -> str:
    """*part* of 1 as a line of blocks; what is not nothing shows."""
    eighths = max(round(part * BAR * 8), 1 if part > 0 else 0)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


def _volume(volume: dict[str, Any], mark: int) -> list[tuple[str, str]]:
    reserve = f"the last {size(volume['reserve_bytes'])} are kept" if volume["reserve_bytes"] else "no reserve"
    used, free = volume["used_percent"], size(volume["free_bytes"])
    return [
        (volume["path"], f"{bar(used / 100):<{BAR}}  {used:.0f} % of {size(volume['total_bytes'])} used, {free} free"),
        ("", f"no build starts above {mark} %, {reserve}"),
    ]


def _table_of_kinds(kinds: Sequence[dict[str, Any]]) -> None:
    most = max((one["size_bytes"] or 0 for one in kinds), default=0) or 1
    rows = [
        [
            KINDS.get(one["kind"], one["kind"]),
            size(one["size_bytes"]),
            bar((one["size_bytes"] or 0) / most),
            one["count"],
        ]
        for one in kinds
    ]
    table(["WHAT", "SIZE", "", "COUNT"], rows, folding="WHAT")


def _project(one: dict[str, Any]) -> list[object]:
    kinds = one["kinds"]
    sizes = [size(kinds[name]) for name in ("files", "variants", "lists", "windows", "caches")]
    return [one["project"], size(one["size_bytes"]), *sizes]


def _tell_progress(found: dict[str, Any], told: set[str]) -> None:
    for one in found["parts"]:
        if one["part"] not in told:
            told.add(one["part"])
            say(f"{PARTS.get(one['part'], one['part'])}: {one['count']}")


def _show(found: dict[str, Any], *, dry_run: bool) -> None:
    rows = [
        [PARTS.get(one["part"], one["part"]), one["count"], size(one["size_bytes"]), one["error"]]
        for one in found["parts"]
    ]
    table(["WHAT", "WOULD GO" if dry_run else "GONE", "SIZE", ""], rows)
    if found.get("deployments"):
        click.echo()
        heads = ["DEPLOYMENT", "PROJECT", "RULE", "SIZE"]
        listed = found["deployments"]
        table(heads, [[one["deployment"], one["project"], one["rule"], size(one["size_bytes"])] for one in listed])
