"""Is it well: for load balancers without a name, and in detail for people."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Final

from aiohttp import web

from scalemesh.errors import ScaleMeshError
from scalemesh.ports import Checks, Finding
from scalemesh.services.deployer import Deployer
from scalemesh.values import State

PROBE_S: Final = 10.0
FRESH_S: Final = 10.0  #: strangers may ask for our health as often as they like: the store is asked no more than this


class HealthRoutes:
    def __init__(
        self, deployer: Deployer, checks: Mapping[str, Checks], *, version: str, clock: Callable[[], float]
    ) -> None:
        """*checks* are the plug-ins by their plug point; *clock* is monotonic, in seconds."""
        self._deployer, self._checks, self._version, self._clock = deployer, checks, version, clock
        self._asking = asyncio.Lock()
        self._asked_at, self._store_was_well = float("-inf"), True
        self._proving = asyncio.Lock()
        self._proved_at, self._proved = float("-inf"), dict[str, list[Finding]]()

    def table(self) -> list[web.RouteDef]:
        return [web.get("/api/v1/health", self.health), web.get("/api/v1/status", self.status)]

    async def health(self, request: web.Request) -> web.Response:
        """200 while database and store answer, else 503; says no more than that to strangers."""
        del request
        is_well = await self._database_is_well() and await self._store_is_well()
        return web.json_response({"status": "ok" if is_well else "failing"}, status=200 if is_well else 503)

    async def status(self, request: web.Request) -> web.Response:
        """Version, what each plug-in found when it last proved itself, deployments by state, executors."""
        del request
        checks = [
            {"part": part, "ok": one.ok, "what": one.what, "fix": "" if one.ok else one.fix}
            for part, findings in (await self._proofs()).items()
            for one in findings
        ]
        tallies = await self._deployer.tallies()
        deployments = {state.value: tallies.get(state, 0) for state in State}
        executors = [asdict(one) for one in await self._deployer.executors()]
        return web.json_response(
            {"version": self._version, "checks": checks, "deployments": deployments, "executors": executors}
        )

    async def _proofs(self) -> dict[str, list[Finding]]:
        """As of FRESH_S ago at most: proving an executor runs a job, and several people may look at once."""
        async with self._proving:
            if self._clock() - self._proved_at >= FRESH_S:
                found = await asyncio.gather(*(_prove(plugin) for plugin in self._checks.values()))
                self._proved = dict(zip(self._checks, found, strict=True))
                self._proved_at = self._clock()
        return self._proved

    async def _database_is_well(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_S):
                await self._deployer.page(None, before=None, limit=1)
        except (ScaleMeshError, OSError):  # a TimeoutError is an OSError
            return False
        return True

    async def _store_is_well(self) -> bool:
        """As of FRESH_S ago at most: proving it writes a blob."""
        async with self._asking:
            if self._clock() - self._asked_at >= FRESH_S and "store" in self._checks:
                self._store_was_well = all(finding.ok for finding in await _prove(self._checks["store"]))
                self._asked_at = self._clock()
        return self._store_was_well


async def _prove(plugin: Checks) -> list[Finding]:
    try:
        async with asyncio.timeout(PROBE_S):
            return list(await plugin.check())
    except TimeoutError:
        return [Finding(ok=False, what=f"no answer within {PROBE_S:.0f} s", fix="look at the service behind it")]
