"""Asks plug-ins for proof that they work now, and waits for none of them for ever."""

import asyncio
from collections.abc import Sequence
from typing import Final

from scalemesh.ports import Checks, Finding

PROBE_S: Final = 10


async def proven(plugin: Checks, within_s: float | None = PROBE_S) -> Sequence[Finding]:
    """What *plugin* finds of itself; that it does not answer is a finding too. None: it is waited for."""
    try:
        async with asyncio.timeout(within_s):
            return await plugin.check()
    except TimeoutError:
        fix = "look at the service behind it"
        return [Finding(ok=False, what=f"no answer within {within_s:g} s", fix=fix, may_pass=True)]
