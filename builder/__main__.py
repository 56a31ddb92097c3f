"""The builder: claim a build, do its steps, tell the daemon how it ended. Runs inside the build job.

Its environment, set by the executor: SCALEMESH_URL, the token by one of SCALEMESH_TOKEN_FD (read from there, once),
SCALEMESH_TOKEN_FILE and SCALEMESH_TOKEN, SCALEMESH_WORK, SCALEMESH_NODES (folders with node, npm and npx, separated by
colons), SCALEMESH_SANDBOX (how user commands are held: bwrap, container, off), SCALEMESH_DISK_WATCHED (set where the
executor holds the build to its disk limit), SCALEMESH_PROXY (a unix socket to reach packages and Git by, where there is
no network), SCALEMESH_CA (a PEM file of authorities to trust instead of the system's; a store may have either).

With the word ``proof`` it only proves that builds could run where it is (see builder.proof).
"""

import errno
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from builder import container
from builder.api import Api, Contact, Refused
from builder.commands import Sandbox
from builder.errors import BuildFailed, GivenUp
from builder.heartbeat import Heartbeat
from builder.job import Job, read_job
from builder.life import Life
from builder.lines import Log
from builder.masking import Masker
from builder.outbox import Outbox
from builder.packing import fingerprint
from builder.protocol import EXIT_FAILED, EXIT_OK, proxy_greeting
from builder.steps import Place, Run, Steps, success
from builder.store import Store
from builder.trust import authorities, trusted, trusting
from builder.watch import watching

MAX_TOKEN_BYTES: Final = 16 * 1024


def start(words: Sequence[str]) -> int:
    """What a container's entry point does with its *words*."""
    if not words:
        return main()
    if words[0] == "holder":
        from builder import holder  # noqa: PLC0415  (a build does not pay for it)

        return holder.main(words[1:])
    from builder import proof  # noqa: PLC0415  (as above)

    return proof.main(words, os.environ)


def main(environ: Mapping[str, str] | None = None, sandbox: Sandbox | None = None) -> int:
    """Do one build; returns the exit code of the process (see protocol). *sandbox*: instead of the usual one."""
    environ = dict(os.environ if environ is None else environ)
    try:
        if container.is_container(environ):
            container.enter()
        environ |= trusting(environ.pop("SCALEMESH_CA", ""))
        os.environ.update(trusting(environ.get("SSL_CERT_FILE", "")))  # OpenSSL looks here
        life, nonce, token = Life(), os.urandom(16).hex(), _token(environ)
        api = Api(environ.get("SCALEMESH_URL", ""), token, Contact(life), nonce)
        place = Place(work=Path(environ.get("SCALEMESH_WORK", "/work")), environ=environ)
        place.prepare()
        job = read_job(api.post("/build/v1/claim", {"nonce": nonce, "builder": fingerprint()}))
        life.limit(job.limits.time_s)
        with (
            _proxy(environ, proxy_greeting(token, nonce)) as proxy,
            watching(place.work, environ, job.limits, life) as cause,
        ):
            place = replace(trusted(job, place), proxy=proxy, cause=cause)
            return _Build(job, place, api, life).run(sandbox)
    except GivenUp as given_up:
        _tell(given_up.message)
        return given_up.exit_code
    except Refused as refused:
        _tell(refused.message)
        return EXIT_FAILED


class _Build:
    def __init__(self, job: Job, place: Place, api: Api, life: Life) -> None:
        masker = Masker(job.secrets)
        self._api, self._life, self._place = api, life, place
        self._outbox = Outbox(api.another(), life, place.spool)
        self._heartbeat = Heartbeat(api.another(), life)
        self._log = Log(self._outbox.put, masker, job.limits.log_bytes)
        self._steps = Steps(job, place, api, _store(job, place, life, self._log), self._log)

    def run(self, sandbox: Sandbox | None) -> int:
        self._outbox.start()
        self._heartbeat.start()
        said = self._outcome(sandbox)
        self._outbox.close()
        self._heartbeat.stop()
        self._api.post("/build/v1/finish", said)
        return EXIT_OK if said["ok"] else EXIT_FAILED

    def _outcome(self, sandbox: Sandbox | None) -> dict[str, Any]:
        try:
            return self._all_steps(sandbox)
        except BuildFailed as failed:
            return self._failure(failed)
        except Refused as refused:
            return self._failure(BuildFailed("rejected", refused.message))
        except (OSError, MemoryError) as error:
            _show_stack()
            return self._failure(_of_system(error))
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, AssertionError) as error:
            _show_stack()
            return self._failure(BuildFailed("internal", f"The builder failed: {type(error).__name__}: {error}."))

    def _all_steps(self, sandbox: Sandbox | None) -> dict[str, Any]:
        steps = self._steps
        steps.tell_of_sandbox()
        facts = steps.fetch()
        plan = steps.detect()
        run: Run | None = None
        if plan.ignore_command or plan.install_command or plan.build_command:
            run = steps.commands(plan, facts, sandbox or _sandbox(self._place))
            run.ignore(facts)
            run.install()
            run.build()
        path, output, files = steps.collect(plan)
        steps.upload(output, files)
        if run is not None:
            run.finish()
        self._life.check()
        return success(path, plan, files, steps.warnings)

    def _failure(self, failed: BuildFailed) -> dict[str, Any]:
        message = self._log.masked(failed.message)
        return {"ok": False, "reason": failed.reason, "message": message, "peak": failed.peak}


def _store(job: Job, place: Place, life: Life, log: Log) -> Store:
    return Store(
        life,
        partial(authorities, job, place.environ),
        {**place.environ, **job.operator_env},
        partial(log.say, "upload"),
        has_network=not place.proxy,
    )


def _of_system(error: OSError | MemoryError) -> BuildFailed:
    """The limit that the builder itself ran into, because of what the build left of it."""
    number = error.errno if isinstance(error, OSError) else errno.ENOMEM
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return BuildFailed("disk_full", "The disk of the build is full. Write less, or have its limit raised.")
    if number == errno.EAGAIN:
        return BuildFailed("too_many_processes", "The build has more processes than it may have. Run fewer at once.")
    if number == errno.ENOMEM:
        return BuildFailed("out_of_memory", "The build ran out of memory. Have its memory limit raised.")
    return BuildFailed("internal", f"The builder failed: {error}.")


def _token(environ: dict[str, str]) -> str:
    """The token, which nothing else finds in an environment of ours afterwards."""
    os.environ.pop("SCALEMESH_TOKEN", None)
    found = environ.pop("SCALEMESH_TOKEN", "")
    try:
        if "SCALEMESH_TOKEN_FD" in environ:
            with os.fdopen(int(environ["SCALEMESH_TOKEN_FD"]), "rb") as file:
                found = file.read(MAX_TOKEN_BYTES).decode("ascii")
        elif "SCALEMESH_TOKEN_FILE" in environ:
            with Path(environ["SCALEMESH_TOKEN_FILE"]).open("rb") as file:
                found = file.read(MAX_TOKEN_BYTES).decode("ascii")
    except (OSError, ValueError) as error:
        raise GivenUp(f"the build's token cannot be read: {error}") from error
    if not found.strip():
        raise GivenUp("no token: a builder is started by a daemon's executor, with SCALEMESH_URL and SCALEMESH_TOKEN")
    return found.strip()


@contextmanager
def _proxy(environ: Mapping[str, str], greeting: bytes) -> Iterator[Mapping[str, str]]:
    target = environ.get("SCALEMESH_PROXY")
    if not target:
        yield {}
        return
    from builder.forwarder import open_forwarder, proxy_environment  # noqa: PLC0415  (where there is no network)

    with open_forwarder(target, greeting) as port:
        yield proxy_environment(port)


def _sandbox(place: Place) -> Sandbox:
    if container.is_container(place.environ):
        held = container.Container(place.work)
        held.hand_over()
        return held
    from builder.sandbox import InnerSandbox  # noqa: PLC0415  (a site without commands needs none)

    return InnerSandbox(place.environ)


def _show_stack() -> None:
    import traceback  # noqa: PLC0415  (a good build does not pay for it)

    traceback.print_exc()


def _tell(text: str) -> None:
    sys.stderr.write(f"builder: {text}\n")


if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))
