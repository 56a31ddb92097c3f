"""Which store the blobs live in: the database's word, since a config file may be older than a move."""

import logging
from collections.abc import Callable
from datetime import datetime

from scalemesh.db import homes
from scalemesh.db.database import Database
from scalemesh.db.homes import Home, HomeRows
from scalemesh.errors import ConfigError
from scalemesh.ports import Finding

log = logging.getLogger(__name__)


async def settle(database: Database, configured: str, now: Callable[[], datetime], *, notes: bool = True) -> Home:
    """Where the blobs live, the config naming the kind *configured*. At each start, before a store is opened.

    *notes*: nothing is noted without; a daemon may be running on another store than the config names by now.

    Raises:
        ConfigError: the config was changed without a move, and the blobs would not be found.
    """
    rows = HomeRows(database)
    found = await rows.home()
    if found is not None and found.kind != configured and found.former == configured:
        log.warning(*_lags(found), extra={"fix": _fix_of(found)})
        return found
    if found is not None and found.kind != configured and await rows.has_blobs():
        raise ConfigError(
            f'store.kind = "{configured}": the blobs live in "{found.kind}"',
            why=f"they have been there since {_day(found)}, and a store of another kind has none of them",
            fix=f'set store.kind = "{found.kind}" again; `scalemesh store migrate --to {configured}` moves them',
        )
    if not notes:
        return found if found is not None and found.kind == configured else Home(kind=configured, since_at=now())
    async with database.transaction() as tx:
        if found is None or found.kind != configured:
            await homes.set_home(tx, Home(kind=configured, since_at=now()))
        elif found.former is not None:
            await homes.config_followed(tx)
    return await rows.home() or Home(kind=configured, since_at=now())


def finding_of(home: Home, configured: str) -> list[Finding]:
    """What `scalemesh check` tells of a config that has not followed a move."""
    if home.kind == configured:
        return []
    what, *values = _lags(home)
    return [Finding(ok=True, what=what % tuple(values), fix=_fix_of(home))]


def _lags(home: Home) -> tuple[str, str, str]:
    return "the blobs live in %s since %s, whatever store.kind says", home.kind, _day(home)


def _fix_of(home: Home) -> str:
    return f'set store.kind = "{home.kind}" in the config'


def _day(home: Home) -> str:
    return f"{home.since_at:%Y-%m-%d %H:%M} UTC"
