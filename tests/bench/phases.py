"""Splits one deployment into phases by the times that the API, its log and the daemon's own log tell."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tests.whole.daemon import RunningDaemon

#: Of the daemon's own log: local time with milliseconds, then what happened to which deployment.
EVENT: Final = re.compile(r"^(\S+ \S+),(\d{3}) INFO \S+ (build started|build claimed) deployment=(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """What the one who deployed saw; seconds since the epoch."""

    project: str
    began: float  #: the command was started
    ended: float  #: the command had ended
    answered: float  #: the site had answered

    @property
    def total_s(self) -> float:
        return self.answered - self.began


async def phases_of(daemon: RunningDaemon, moments: Moments) -> dict[str, float]:
    """Seconds of each phase; they add up to the whole. A phase that the build did not have took none."""
    listed = await daemon.call("GET", f"/projects/{moments.project}/deployments")
    facts = listed["deployments"][0]
    lines = await daemon.lines(facts["id"])
    events = _events(daemon, facts["id"])
    times = {
        "command: start, submit": _at(facts["created_at"]),
        "queue": _at(facts["started_at"]),
        "executor: sandbox": events.get("build started"),
        "builder: start, claim": events.get("build claimed"),
        "clone": _said(lines, "fetch", "Cloned in"),
        "detect": _said(lines, "detect", ""),
        "restore cache": _said(lines, "install", "> "),
        "install": _said(lines, "install", "Installed in"),
        "save cache": _said(lines, "build", "> "),
        "build": _said(lines, "build", "Built in"),
        "collect": _said(lines, "collect", "Collected"),
        "upload": _said(lines, "upload", "Uploaded"),
        "finish, publish": _at(facts["finished_at"]),
        "command: last words, end": moments.ended,
        "site answers": moments.answered,
    }
    phases, before = {}, moments.began
    for name, at in times.items():
        now = max(before, at or before)
        phases[name], before = now - before, now
    return phases


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _said(lines: list[dict[str, Any]], step: str, beginning: str) -> float | None:
    """When the last of our own lines of *step* that starts so was said."""
    found = [
        line
        for line in lines
        if line["step"] == step and line["stream"] == "system" and line["text"].startswith(beginning)
    ]
    return _at(found[-1]["at"]) if found else None


def _events(daemon: RunningDaemon, deployment: str) -> dict[str, float]:
    return {
        what: datetime.strptime(second, "%Y-%m-%d %H:%M:%S").astimezone().timestamp() + int(millis) / 1000
        for second, millis, what, found in EVENT.findall(daemon.log())
        if found == deployment
    }
