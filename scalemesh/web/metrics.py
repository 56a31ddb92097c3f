"""Figures for Prometheus, in a registry of our own."""

from collections.abc import Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from scalemesh.services.deployer import Deployer
from scalemesh.values import State
from scalemesh.web.auth import signed_in


class Metrics:
    """Counted by whoever does the work; read by ``MetricsRoutes``."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(namespace="scalemesh", registry=self._registry)
        self._visits = Counter("scalemesh_visits", "Answers of site hosts", ["status"], registry=self._registry)
        self._bytes = Counter("scalemesh_visit_bytes", "Bytes of bodies sent by site hosts", registry=self._registry)
        self._lines = Counter("scalemesh_log_lines", "Log lines kept", registry=self._registry)
        self._deployments = Gauge("scalemesh_deployments", "Deployments by state", ["state"], registry=self._registry)
        self._building = Gauge("scalemesh_builds_running", "Builds that run now", ["executor"], registry=self._registry)
        self._queue = Gauge("scalemesh_queue_length", "Deployments that wait for a build", registry=self._registry)

    def visits(self, status: int, count: int, body_bytes: int) -> None:
        """*count* answers of *status*, and bytes of bodies."""
        self._visits.labels(str(status)).inc(count)
        self._bytes.inc(body_bytes)

    def log_lines(self, count: int) -> None:
        self._lines.inc(count)

    def text(self, tallies: Mapping[State, int], building: Mapping[str, int]) -> bytes:
        """In Prometheus' text format, with *tallies* and *building* (by executor) as they are now."""
        for state in State:
            self._deployments.labels(state.value).set(tallies.get(state, 0))
        for kind, count in building.items():
            self._building.labels(kind).set(count)
        self._queue.set(tallies.get(State.QUEUED, 0))
        return generate_latest(self._registry)


class MetricsRoutes:
    def __init__(self, metrics: Metrics, deployer: Deployer) -> None:
        self._metrics, self._deployer = metrics, deployer

    def table(self) -> list[web.RouteDef]:
        return [web.get("/metrics", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        """For a scraper with an API token."""
        signed_in(request)
        building = {one.kind: one.building for one in await self._deployer.executors()}
        text = self._metrics.text(await self._deployer.tallies(), building)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})
