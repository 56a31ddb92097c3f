"""How values stand in columns: times as integer milliseconds UTC, settings as JSON."""

import json
from dataclasses import asdict
from datetime import UTC, datetime

from scalemesh.rules import Dialect
from scalemesh.values import BuildSettings, Digest, OwnRetention


def to_ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def from_ms(value: int) -> datetime:
    return datetime.fromtimestamp(value / 1000, UTC)


def from_ms_or_none(value: int | None) -> datetime | None:
    return None if value is None else from_ms(value)


def digest_or_none(value: str | None) -> Digest | None:
    return None if value is None else Digest(value)


def settings_to_json(settings: BuildSettings) -> str:
    return json.dumps({name: value for name, value in asdict(settings).items() if value is not None})


def settings_from_json(text: str) -> BuildSettings:
    found = json.loads(text)
    dialect = found.pop("dialect", None)
    return BuildSettings(**found, dialect=None if dialect is None else Dialect(dialect))


def retention_to_json(retention: OwnRetention) -> str:
    return json.dumps({name: value for name, value in asdict(retention).items() if value is not None})


def retention_from_json(text: str) -> OwnRetention:
    return OwnRetention(**json.loads(text))
