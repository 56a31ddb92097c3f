"""Run the user's commands in the inner sandbox, and show what they print.

The environment does not go to the sandbox program, whose own loader would obey variables such as LD_PRELOAD, and
not into arguments, which others can read: the shell inside reads it from its standard input, then forgets that.
"""

import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from builder.errors import BuildFailed
from builder.failures import explain
from builder.life import Life
from builder.lines import Log
from builder.programs import Program, adopt_orphans, run

_LOADER: Final = 'eval "$(cat)"'


class Sandbox(Protocol):
    """What holds user commands: builder.sandbox.InnerSandbox, or builder.container.Container."""

    def command(self, argv: Sequence[str], *, cwd: str) -> list[str]:
        """The argument list that runs *argv* inside, in the folder *cwd*."""

    def end_all(self) -> None:
        """Kill all that commands left; nothing, where their end is the end of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    step: str
    text: str
    cwd: Path
    env: Mapping[str, str]


class Commands:
    """Runs one command after the other; none of their processes is alive between them."""

    def __init__(
        self, sandbox: Sandbox, life: Life, log: Log, path: str, cause: Callable[[], BuildFailed | None] = lambda: None
    ) -> None:
        """*cause* tells what the kernel did to a command that failed, where that can be known."""
        self._sandbox, self._life, self._log, self._cause = sandbox, life, log, cause
        self._outer_env = {"PATH": path, "LANG": "C.UTF-8"}
        adopt_orphans()

    def must(self, command: Command) -> None:
        """Run *command*.

        Raises:
            BuildFailed: it ended with another code than 0, with the cause as far as its output tells it.
        """
        code, tail = self._run(command)
        if code:
            raise self._cause() or explain(command.text, code, tail)

    def succeeds(self, command: Command) -> bool:
        """Run *command* and say whether it ended with 0."""
        return self._run(command)[0] == 0

    def quietly(
        self,
        argv: Sequence[str],
        cwd: Path,
        *,
        reads: int | None = None,
        takes: Callable[[bytes], None] = lambda _: None,
    ) -> bool:
        """Run a program of our own choice inside, show nothing, and say whether it ended with 0.

        It reads from the descriptor *reads*, if there is one; what it writes to its standard output goes to *takes*.
        """
        inside = self._sandbox.command(list(argv), cwd=str(cwd))
        program = Program(argv=inside, cwd=cwd, env=self._outer_env, stdin_file=reads)

        def on_output(stream: str, data: bytes) -> None:
            if stream == "out":
                takes(data)

        return run(program, self._life, on_output, self._sandbox.end_all) == 0

    def has(self, program: str) -> bool:
        """Whether there is such a program where commands run, outside of what the build itself brings."""
        return shutil.which(program, path=self._outer_env["PATH"]) is not None

    def _run(self, command: Command) -> tuple[int, list[str]]:
        self._log.say(command.step, f"> {command.text}")
        output = self._log.output(command.step)
        program = Program(
            argv=self._sandbox.command(["/bin/sh", "-c", _LOADER], cwd=str(command.cwd)),
            cwd=command.cwd,
            env=self._outer_env,
            stdin=_script(command),
        )
        try:
            code = run(program, self._life, output.feed, self._sandbox.end_all)
        finally:
            output.close()
        return code, list(output.tail)


def _script(command: Command) -> bytes:
    exports = [f"export {name}={shlex.quote(value)}" for name, value in command.env.items()]
    script = [*exports, "exec </dev/null", f"exec /bin/sh -c {shlex.quote(command.text)}"]
    return "\n".join(script).encode("utf-8", "surrogateescape")
