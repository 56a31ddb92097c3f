"""The way to the cluster: one client, few threads of our own, answers as plain JSON.

Answers are read as they come over the wire, not as the client's classes: those differ between its versions.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, Self

from kubernetes.client import AuthorizationV1Api, BatchV1Api, CoreV1Api, VersionApi
from kubernetes.client.exceptions import ApiException

from plugins.executors.kubernetes.access import RENEW_S, Access
from plugins.executors.kubernetes.config import KubernetesConfig
from plugins.executors.kubernetes.words import TRANSPORT, is_unknown, meaning, no_credentials
from scalemesh.errors import NotFoundError

THREADS: Final = 4
CONNECT_S: Final = 5
READ_S: Final = 15
WATCH_S: Final = 50  #: the server ends a watch by then and it is begun anew: a dead connection shows itself
MOST_LINE: Final = 8 << 20
Found = dict[str, Any]


class Cluster:
    """What we ask of the API. All raise what ``words.meaning`` tells."""

    def __init__(self, access: Access, namespace: str) -> None:
        self._access, self._namespace = access, namespace
        client = access.client
        self._jobs, self._core = BatchV1Api(client), CoreV1Api(client)
        self._rights, self._version = AuthorizationV1Api(client), VersionApi(client)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kubernetes")

    @classmethod
    @asynccontextmanager
    async def open(cls, config: KubernetesConfig, *, renew_s: float = RENEW_S) -> AsyncIterator[Self]:
        """Read who we are; nothing is asked of the cluster yet. *renew_s*: how often at most that is read anew.

        Raises:
            ConfigError: no such kubeconfig or context, or no pod of a cluster.
        """
        access = await asyncio.to_thread(Access, config, THREADS + 2, renew_s)
        cluster = cls(access, config.namespace)
        try:
            yield cluster
        finally:
            await asyncio.to_thread(cluster._threads.shutdown, cancel_futures=True)
            access.close()

    @property
    def address(self) -> str:
        return str(self._access.client.configuration.host)

    async def version(self) -> str:
        """Such as ``v1.20.2``."""
        return str((await self._ask("get", "the version", self._version.get_code))["gitVersion"])

    async def may(self, verb: str, group: str, resource: str) -> bool:
        """Whether we have that right in the namespace."""
        wish = {"namespace": self._namespace, "verb": verb, "group": group, "resource": resource}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": wish},
        }
        review = self._rights.create_self_subject_access_review
        return bool((await self._ask("create", "selfsubjectaccessreviews", review, body))["status"].get("allowed"))

    async def create_job(self, body: Found) -> Found:
        return await self._ask("create", "jobs", self._jobs.create_namespaced_job, self._namespace, body)

    async def job(self, name: str) -> Found | None:
        """None: there is none of that name."""
        with suppress(NotFoundError):
            return await self._ask("get", "jobs", self._jobs.read_namespaced_job, name, self._namespace)
        return None

    async def jobs(self, selector: str) -> list[Found]:
        return await self._list("jobs", self._jobs.list_namespaced_job, label_selector=selector)

    async def pods(self, selector: str) -> list[Found]:
        return await self._list("pods", self._core.list_namespaced_pod, label_selector=selector)

    async def secrets(self, selector: str) -> list[Found]:
        return await self._list("secrets", self._core.list_namespaced_secret, label_selector=selector)

    async def events(self, uid: str) -> list[Found]:
        """What the cluster told of one object."""
        chosen = f"involvedObject.uid={uid}"
        return await self._list("events", self._core.list_namespaced_event, field_selector=chosen, limit=50)

    async def delete_job(self, name: str) -> None:
        """Its pods go, too. One that is not there is no error."""
        await self._delete("jobs", self._jobs.delete_namespaced_job, name, propagation_policy="Background")

    async def delete_pod(self, name: str, grace_s: int) -> None:
        await self._delete("pods", self._core.delete_namespaced_pod, name, grace_period_seconds=grace_s)

    async def delete_secret(self, name: str) -> None:
        await self._delete("secrets", self._core.delete_namespaced_secret, name)

    async def create_secret(self, body: Found) -> Found:
        return await self._ask("create", "secrets", self._core.create_namespaced_secret, self._namespace, body)

    async def patch_secret(self, name: str, body: Found) -> None:
        """One that is not there any more is no error."""
        with suppress(NotFoundError):
            await self._ask("patch", "secrets", self._core.patch_namespaced_secret, name, self._namespace, body)

    def listed(self, resource: str, selector: str) -> tuple[list[Found], str]:
        """For the threads of a watch: what there is, and the version from which on to watch. Blocks."""
        asked = partial(self._lister(resource), self._namespace, label_selector=selector)
        answer = self._answer("list", resource, asked)
        return answer.get("items") or [], answer["metadata"]["resourceVersion"]

    def stream(self, resource: str, selector: str, version: str) -> Any:
        """An open watch from *version* on, for ``events_of``. Blocks until the server has answered."""
        asked = partial(
            self._lister(resource),
            self._namespace,
            label_selector=selector,
            watch=True,
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=WATCH_S,
            _preload_content=False,
            _request_timeout=(CONNECT_S, WATCH_S + READ_S),
        )
        return self._tried("watch", resource, asked)

    def _lister(self, resource: str) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(
            self._jobs if resource == "jobs" else self._core, f"list_namespaced_{resource.removesuffix('s')}"
        )
        return found

    async def _list(self, resource: str, function: Callable[..., Any], **words: Any) -> list[Found]:
        return (await self._ask("list", resource, function, self._namespace, **words)).get("items") or []

    async def _delete(self, resource: str, function: Callable[..., Any], name: str, **words: Any) -> None:
        with suppress(NotFoundError):
            await self._ask("delete", resource, function, name, self._namespace, **words)

    async def _ask(self, verb: str, resource: str, function: Callable[..., Any], *words: Any, **named: Any) -> Found:
        call = partial(self._answer, verb, resource, partial(function, *words, **named))
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _answer(self, verb: str, resource: str, asked: Callable[..., Any]) -> Found:
        bounded = partial(asked, _preload_content=False, _request_timeout=(CONNECT_S, READ_S))
        return self._tried(verb, resource, lambda: json.loads(bounded().data))  # type: ignore[no-any-return]

    def _tried(self, verb: str, resource: str, call: Callable[[], Any]) -> Any:
        try:
            return self._access.asked(call)
        except (ApiException, ValueError, *TRANSPORT) as error:
            if is_unknown(error) and not self._access.has_credentials:
                raise no_credentials(error) from error
            raise meaning(error, verb, resource, self._namespace) from error


def events_of(stream: Any) -> Iterator[Found]:
    """What an open watch tells, until the server ends it.

    Raises:
        OSError, urllib3.exceptions.HTTPError: the connection broke.
    """
    rest = b""
    for chunk in stream.stream(amt=None, decode_content=False):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)
        if len(rest) > MOST_LINE:
            raise ConnectionError("a line without end")


def end_stream(stream: Any) -> None:
    """Wake the thread that reads it, from another one."""
    with suppress(OSError, ValueError, AttributeError, RuntimeError):
        stream.shutdown()
