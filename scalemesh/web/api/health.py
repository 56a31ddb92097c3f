"""Is it well: for load balancers without a name, and in detail for people."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from aiohttp import web

from scalemesh.errors import ScaleMeshError
from scalemesh.ports import Checks, Finding
from scalemesh.services.deployer import Deployer
from scalemesh.services.kept_proofs import KeptProofs
from scalemesh.services.proofs import PROBE_S, proven
from scalemesh.values import State

FRESH_S: Final = 10.0  #: strangers may ask for our health as often as they like: the store is asked no more than this


class HealthRoutes:
    def __init__(
        self, deployer: Deployer, checks: Mapping[str, Checks], *, version: str, clock: Callable[[], float]
    ) -> None:
        """*checks* are the plug-ins by their plug point; *clock* is monotonic, in seconds."""
        self._deployer, self._checks, self._version, self._clock = deployer, checks, version, clock
        self._asking = asyncio.Lock()
        self._asked_at, self._wrong = float("-inf"), list[Finding]()
        self._proofs = KeptProofs(checks, clock)

    def table(self) -> list[web.RouteDef]:
        return [web.get("/api/v1/health", self.health), web.get("/api/v1/status", self.status)]

    async def health(self, request: web.Request) -> web.Response:
        """200 while sites are served, else 503; says no more than that to strangers.

        A store elsewhere that is away leaves those sites that lie here too: whoever spreads visitors over several
        machines must not send them away from all.
        """
        del request
        if not await self._database_is_well():
            return web.json_response({"status": "failing"}, status=503)
        wrong = await self._wrong_with_store()
        status = "failing" if not all(finding.may_pass for finding in wrong) else "degraded" if wrong else "ok"
        return web.json_response({"status": status}, status=503 if status == "failing" else 200)

    async def status(self, request: web.Request) -> web.Response:
        """Version, what each plug-in found when it last proved itself, deployments by state, executors."""
        del request
        checks = [
            {"part": part, "ok": one.ok, "what": one.what, "fix": "" if one.ok else one.fix}
            for part, findings in (await self._proofs.all()).items()
            for one in findings
        ]
        tallies = await self._deployer.tallies()
        deployments = {state.value: tallies.get(state, 0) for state in State}
        executors = [asdict(one) for one in await self._deployer.executors()]
        return web.json_response(
            {"version": self._version, "checks": checks, "deployments": deployments, "executors": executors}
        )

    async def _database_is_well(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_S):
                await self._deployer.page(None, before=None, limit=1)
        except (ScaleMeshError, OSError):  # a TimeoutError is an OSError
            return False
        return True

    async def _wrong_with_store(self) -> Sequence[Finding]:
        """As of FRESH_S ago at most: proving it writes a blob."""
        async with self._asking:
            if self._clock() - self._asked_at >= FRESH_S and "store" in self._checks:
                self._wrong = [finding for finding in await proven(self._checks["store"]) if not finding.ok]
                self._asked_at = self._clock()
        return self._wrong
