"""Calls AWS: boto3's clients, in a few threads of their own, with answers and errors as ours."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)

from plugins.executors.ecs.config import EcsConfig
from plugins.executors.ecs.words import translated

_THREADS: Final = 8
_CONNECT_S: Final = 3
_READ_S: Final = 10
_TRIES: Final = 3  #: botocore waits between them, longer each time; whoever calls backs off besides
#: What a session and its clients go by for life once they were made: a machine that just boots may lack it for now.
_MISSING: Final = (NoCredentialsError, PartialCredentialsError, NoRegionError)


class Aws:
    """One account and region. Clients are made when they are first needed."""

    def __init__(self, config: EcsConfig) -> None:
        self._region = config.region or None
        self._endpoint = config.endpoint_url or None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="scalemesh-ecs")
        self._making = threading.Lock()
        self._session: Any = None
        self._clients: dict[tuple[str, str], Any] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, config: EcsConfig) -> AsyncIterator[Self]:
        """Yield; calls under way are waited for at the end, each has its time limit."""
        aws = cls(config)
        try:
            yield aws
        finally:
            await asyncio.to_thread(aws._close)

    async def call(self, service: str, operation: str, *, region: str = "", **words: Any) -> dict[str, Any]:
        """Return the answer. *region*: another than the usual one.

        Raises:
            UnreachableError: no answer, or none now: trying again may help.
            RefusedError: AWS said no, and will again.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._call, service, operation, region, words)

    def _call(self, service: str, operation: str, region: str, words: dict[str, Any]) -> dict[str, Any]:
        try:
            found: dict[str, Any] = getattr(self.client(service, region), operation)(**words)
        except (ClientError, BotoCoreError, ValueError) as error:
            if isinstance(error, _MISSING):
                self._forget()
            raise translated(error, f"{service}:{operation}") from error
        return found

    def client(self, service: str, region: str = "") -> Any:
        """The client of boto3. Takes a while the first time: call it in a thread."""
        with self._making:  # making clients is the one thing that boto3 does not share between threads
            named = (service, region)
            if named not in self._clients:
                self._session = self._session or boto3.session.Session(region_name=self._region)
                self._clients[named] = self._session.client(
                    service, region_name=region or None, endpoint_url=self._endpoint, config=_settings()
                )
            return self._clients[named]

    def _forget(self) -> None:
        """Let the next call look anew for credentials and region. Calls under way keep the clients that they have."""
        with self._making:
            self._session = None
            self._clients.clear()

    def _close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        for client in self._clients.values():
            client.close()


def _settings() -> Config:
    return Config(
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        max_pool_connections=_THREADS,
        retries={"mode": "standard", "total_max_attempts": _TRIES},
        user_agent_extra="scalemesh",
    )
