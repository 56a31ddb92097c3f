"""Send the bytes that nobody has yet: straight to the store where the daemon gives URLs for it, else to the daemon."""

import hashlib
import os
import queue
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, Final

from builder.api import Api, Refused
from builder.collect import READ_BYTES, Collected
from builder.errors import BuildFailed
from builder.parallel import in_lanes, workers_for
from builder.store import Lane, Signed, Store, signed
from builder.tree import Tree

WORKERS: Final = 8
BATCH: Final = 500  #: digests asked for at once: their URLs live 15 minutes, and signing them takes the daemon a while


@dataclass(frozen=True, slots=True)
class Sent:
    count: int
    size: int  #: bytes
    is_direct: bool  #: all of them went straight to the store


def upload(files: Sequence[Collected], output: Tree, api: Api, store: Store) -> Sent:
    """Make the store have every blob of *files*.

    Raises:
        BuildFailed: rejected, where the bytes are no longer those that were hashed.
    """
    digests = list({file.sha256: file for file in files}.values())
    through_daemon: list[Collected] = []
    sent: list[int] = []

    def send(one: tuple[Collected, Signed | None], lane: tuple[Api, Lane]) -> None:
        file, target = one
        store.life.check()
        if target is None or not lane[1].send(target, OutputParcel(file, output, lane[0])):
            through_daemon.append(file)
            _send_to_daemon(file, output, lane[0])
        sent.append(file.size)

    with closing(api.another()) as asking, closing(_ahead(_missing(digests, asking))) as missing:
        in_lanes(missing, send, lambda: _lane(api, store), lambda: _own(api, store), workers_for(len(digests), WORKERS))
    return Sent(len(sent), sum(sent), is_direct=bool(sent) and not through_daemon)


@dataclass(frozen=True, slots=True)
class OutputParcel:
    """One file of the output, for builder.store."""

    file: Collected
    output: Tree
    api: Api

    @property
    def size(self) -> int:
        return self.file.size

    def open(self) -> IO[bytes]:
        try:
            with self.output.file(self.file.held_at) as descriptor:
                if os.fstat(descriptor).st_size != self.file.size:
                    raise OSError("its size changed")
                return os.fdopen(os.dup(descriptor), "rb", buffering=0)
        except OSError as error:
            raise _changed(self.file, str(error)) from error

    def check(self) -> None:
        digest = hashlib.sha256()
        with self.open() as body:
            while data := body.read(READ_BYTES):
                digest.update(data)
        if digest.hexdigest() != self.file.sha256:
            raise _changed(self.file, "its bytes changed")

    def again(self) -> Signed | None:
        found = _ask([self.file], self.api)
        return signed(found[0]["put"]) if found else None


def _changed(file: Collected, why: str) -> BuildFailed:
    return BuildFailed("rejected", f"The output changed while it was sent: {file.path!r} ({why}).")


def _send_to_daemon(file: Collected, output: Tree, api: Api) -> None:
    parcel = OutputParcel(file, output, api)
    try:
        api.call("PUT", f"/build/v1/blobs/{file.sha256}", parcel.open, {"Content-Length": str(file.size)})
    except Refused as error:
        raise BuildFailed("rejected", f"The file {file.path!r} was not accepted: {error.message}.") from error


def _missing(files: Sequence[Collected], api: Api) -> Iterator[list[tuple[Collected, Signed | None]]]:
    """Batch by batch, those of *files* that nobody has yet, and where each is to be sent; None: to the daemon."""
    for start in range(0, len(files), BATCH):
        asked = {file.sha256: file for file in files[start : start + BATCH]}
        yield [(asked[each["sha256"]], signed(each["put"])) for each in _ask(list(asked.values()), api)]


def _ask(files: Sequence[Collected], api: Api) -> Sequence[Mapping[str, Any]]:
    digests = [{"sha256": file.sha256, "size": file.size} for file in files]
    found: Sequence[Mapping[str, Any]] = api.post("/build/v1/blobs", {"digests": digests})["missing"]
    return found


def _ahead(
    batches: Iterator[list[tuple[Collected, Signed | None]]],
) -> Generator[tuple[Collected, Signed | None]]:
    """What is in *batches*, of which the next one is asked for while the one before is sent."""
    ready: queue.Queue[list[tuple[Collected, Signed | None]] | BaseException | None] = queue.Queue(maxsize=1)
    is_over = threading.Event()

    def ask() -> None:
        try:
            for batch in batches:
                ready.put(batch)
                if is_over.is_set():
                    return
            ready.put(None)
        except BaseException as error:  # noqa: BLE001  (raised again by whoever takes)
            ready.put(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        while (batch := ready.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield from batch
    finally:
        is_over.set()
        with suppress(queue.Empty):
            ready.get_nowait()  # lets it go on, if it waits to hand over what nobody wants any more
        thread.join()


@contextmanager
def _lane(api: Api, store: Store) -> Iterator[tuple[Api, Lane]]:
    with closing(store.lane()) as lane:
        yield api, lane


@contextmanager
def _own(api: Api, store: Store) -> Iterator[tuple[Api, Lane]]:
    with closing(api.another()) as own, _lane(own, store) as found:
        yield found
