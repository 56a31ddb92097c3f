"""The builder in its image, without an executor: what holds user commands there, and what they cannot get hold of.

What protects is shown by its absence: each theft is tried without it as well, and must succeed there.
"""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from builder.packing import fingerprint
from tests.rigs.docker import need_docker
from tests.rigs.everywhere import bridge_address, builder_image
from tests.rigs.tls import certificate
from tests.unit.builder_daemon import FakeDaemon, files_source

pytestmark = [pytest.mark.timeout(300)]
TOKEN: Final = "let-me-in"  #: the one that the daemon of these tests takes
ROOT: Final = ("SETUID", "SETGID", "SETPCAP", "KILL", "CHOWN", "DAC_OVERRIDE")
#: The builder as it is, but that it does not hide.
UNHIDDEN: Final = """
import sys
sys.path.insert(0, "/opt/scalemesh/builder.pyz")
from builder import container
container.enter = lambda: None
from builder.__main__ import start
sys.exit(start([]))
"""
#: Prints what looks like a token or a nonce in all that the system shows of other processes.
THEFT: Final = """
import os, re
from pathlib import Path
FOUND = re.compile(rb"let-me-i[n]|[0-9a-f]{32}")
def show(read):
    try:
        print(*{match.decode() for match in FOUND.findall(read())})
    except OSError as error:
        print(error)
def memory(pid):
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        place, rights, *_ = line.split()
        if rights.startswith("rw"):
            start, end = (int(word, 16) for word in place.split("-"))
            with open(f"/proc/{pid}/mem", "rb", 0) as file:
                file.seek(start)
                yield file.read(min(end - start, 64 << 20))
for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
    if pid != os.getpid():
        show(Path(f"/proc/{pid}/environ").read_bytes)
        show(lambda: b"".join(os.readlink(each).encode() for each in Path(f"/proc/{pid}/fd").iterdir()))
        show(lambda: b" ".join(memory(pid)))
"""


@dataclass
class Held:
    """How a container is started; what is not said is as the executors have it."""

    user: str = "1000:1000"
    capabilities: tuple[str, ...] = ()
    has_init: bool = True
    network: str = "none"
    pids: int = 128
    memory_mib: int = 512
    tmp: str = "--tmpfs=/tmp"
    words: tuple[str, ...] = ()  #: before the image, for ``docker run``
    command: tuple[str, ...] = ()  #: after it
    environ: dict[str, str] = field(default_factory=dict)

    def arguments(self, sockets: Path, image: str) -> list[str]:
        environ = {
            "SCALEMESH_URL": "unix:/run/scalemesh/d.sock",
            "SCALEMESH_TOKEN": TOKEN,
            "SCALEMESH_WORK": "/work",
            "SCALEMESH_SANDBOX": "container",
            "HOME": "/work/home",
            "TMPDIR": "/work/tmp",
            **self.environ,
        }
        words = [
            "docker",
            "run",
            "--rm",
            f"--network={self.network}",
            "--read-only",
            "--user",
            self.user,
            "--cap-drop=ALL",
        ]
        words += [f"--cap-add={name}" for name in self.capabilities]
        words += ["--security-opt=no-new-privileges", f"--pids-limit={self.pids}", f"--memory={self.memory_mib}m"]
        words += [f"--memory-swap={self.memory_mib}m", "--volume=/work", self.tmp]
        words += [f"--volume={sockets}:/run/scalemesh", *(["--init"] if self.has_init else []), *self.words]
        words += [word for name, value in environ.items() for word in ("--env", f"{name}={value}")]
        return [*words, image, *self.command]


#: The two ways in which user commands are held.
USERS: Final = {"one user": Held(), "a second user": Held(user="0:0", capabilities=ROOT)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def image() -> str:
    need_docker()
    return await asyncio.to_thread(builder_image)


@asynccontextmanager
async def a_daemon(folder: Path, script: str, **more: Any) -> AsyncIterator[FakeDaemon]:
    """One that wants *script* run, and the folder ``out`` published; its socket is in *folder*/sockets."""
    sockets = folder / "sockets"
    sockets.mkdir(mode=0o711, parents=True)
    source, uploads = files_source(build__sh=script, attack__py=THEFT)
    settings = {"build_command": "sh ./build.sh", "output_directory": "out", **more.pop("settings", {})}
    fake = FakeDaemon(socket=sockets / "d.sock", source=source, uploads=uploads, settings=settings, **more)
    await fake.start()
    fake.socket.chmod(0o666)
    try:
        yield fake
    finally:
        await fake.stop()


async def run(held: Held, sockets: Path, image: str) -> tuple[int, str]:
    """Run a container to its end: its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *held.arguments(sockets, image), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode(errors="replace")


async def built(held: Held, folder: Path, image: str, script: str, **more: Any) -> FakeDaemon:
    """What the daemon heard of a build of *script*; its first file may be looted."""
    async with a_daemon(folder, script, **more) as fake:
        _, said = await run(held, fake.socket.parent, image)
        assert fake.finished is not None, said
        assert "Traceback" not in said
        return fake


def page(fake: FakeDaemon) -> str:
    assert fake.finished is not None
    assert fake.finished["ok"], fake.finished
    return fake.files()["index.html"].decode()


def why(fake: FakeDaemon) -> tuple[str, str]:
    assert fake.finished is not None
    assert not fake.finished["ok"], fake.finished
    return fake.finished["reason"], fake.finished["message"]


@pytest.mark.parametrize("users", USERS)
async def test_a_site_is_built_in_the_image(image: str, tmp_path: Path, users: str) -> None:
    package = {"name": "x", "version": "1.0.0", "scripts": {"build": 'node -e "console.log(6*7)" && sh make.sh'}}
    source, uploads = files_source(package__json=json.dumps(package), make__sh="mkdir out; echo made >out/index.html")
    async with a_daemon(tmp_path, "") as fake:
        fake.source, fake.uploads, fake.settings = source, uploads, {"output_directory": "out"}
        code, said = await run(USERS[users], fake.socket.parent, image)
        assert code == 0, (said, fake.text)
    assert page(fake) == "made\n"
    assert "42" in fake.printed


THIEF: Final = "mkdir out; python3 -I attack.py >out/index.html 2>&1; true"


@pytest.mark.parametrize("users", USERS)
async def test_a_command_finds_no_nonce_of_the_builder(image: str, tmp_path: Path, users: str) -> None:
    fake = await built(USERS[users], tmp_path, image, THIEF)
    (nonce,) = fake.nonces
    assert "denied" in page(fake)
    assert nonce not in page(fake)


async def test_a_command_finds_neither_nonce_nor_token_of_a_builder_without_an_init(image: str, tmp_path: Path) -> None:
    """An init that an engine puts before the builder shows the token, which is spent by then."""
    fake = await built(Held(has_init=False), tmp_path, image, THIEF)
    (nonce,) = fake.nonces
    assert "denied" in page(fake)
    assert nonce not in page(fake)
    assert TOKEN not in page(fake)


async def test_a_command_finds_both_where_the_builder_does_not_hide(image: str, tmp_path: Path) -> None:
    held = Held(has_init=False, words=("--entrypoint", "python3"), command=("-I", "-c", UNHIDDEN))
    fake = await built(held, tmp_path, image, THIEF)
    (nonce,) = fake.nonces
    assert nonce in page(fake)
    assert TOKEN in page(fake)


async def test_a_second_user_can_neither_end_the_builder_nor_read_what_waits_to_be_sent(
    image: str, tmp_path: Path
) -> None:
    script = """
        mkdir out
        id -u >out/index.html
        grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status >>out/index.html
        ls /work/spool >/dev/null 2>&1 && echo spool >>out/index.html
        kill -9 $(ps_builder) 2>/dev/null && echo killed >>out/index.html
        true
    """.replace("$(ps_builder)", "$(grep -l '[b]uilder.pyz' /proc/[0-9]*/cmdline | cut -d/ -f3 | grep -vx 1)")
    second = await built(USERS["a second user"], tmp_path / "two", image, script)
    lines = page(second).split()
    assert lines[0] == "1001"
    assert "spool" not in lines
    assert "killed" not in lines
    assert re.search(r"CapEff:\s0+\nCapBnd:\s0+\nNoNewPrivs:\s1\n", page(second))
    one = await built(USERS["one user"], tmp_path / "one", image, script.replace("kill -9", "kill -0"))
    assert {"1000", "spool", "killed"} <= set(page(one).split())


#: Left behind by a command: each ignores what it is told; the second is another process every few milliseconds.
REMAINS: Final = {
    "a stubborn process": "while True: sign(0.05)",
    "a chain of processes": "while True: sign(0.005); os.fork() and os._exit(0)",
}


@pytest.mark.parametrize("remains", REMAINS)
@pytest.mark.parametrize("users", USERS)
async def test_nothing_of_a_command_is_alive_after_it(image: str, tmp_path: Path, users: str, remains: str) -> None:
    program = f"""
import os, signal, time
os.setsid()
[signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
def sign(seconds):
    print("alive", file=open("signs", "a"))
    time.sleep(seconds)
{REMAINS[remains]}
"""
    install = f"python3 -c '{program}' & while [ ! -s signs ]; do sleep 0.01; done"
    script = """
        before=$(wc -l <signs); sleep 0.5; mkdir out
        echo $before $(wc -l <signs) $(grep -l '[S]IG_IGN' /proc/[0-9]*/cmdline | wc -l) >out/index.html
    """
    fake = await built(USERS[users], tmp_path, image, script, settings={"install_command": install})
    before, after, processes = page(fake).split()
    assert before == after
    assert processes == "0"


@pytest.mark.parametrize("users", USERS)
async def test_a_fork_bomb_is_told_and_dies(image: str, tmp_path: Path, users: str) -> None:
    fake = await built(USERS[users], tmp_path, image, "bomb() { bomb | bomb & }; bomb; sleep 60")
    reason, message = why(fake)
    assert reason == "too_many_processes"
    assert re.search(r"128 processes.*builds\.pids", message)
    assert fake.finished is not None
    assert fake.finished["peak"]["pids"] == 128


@pytest.mark.parametrize("users", USERS)
async def test_a_fork_bomb_dies_where_the_engine_limits_no_processes(image: str, tmp_path: Path, users: str) -> None:
    """The builder counts them; what has left the group of the command dies as well."""
    script = "for i in $(seq 200); do setsid sh -c 'trap \"\" TERM; sleep 60' & done; wait"
    fake = await built(replace(USERS[users], pids=-1), tmp_path, image, script, limits={"pids": 90})
    assert why(fake)[0] == "too_many_processes"
    assert re.search(r"more than its 90 processes.*builds\.pids", why(fake)[1])


@pytest.mark.parametrize("has_init", [False, True])
async def test_processes_that_are_left_and_end_do_not_count_for_long(
    image: str, tmp_path: Path, has_init: bool
) -> None:
    """Four times as many as there may be at once: whoever adopts them has to take note of their end."""
    script = "for i in $(seq 400); do (true &); sleep 0.005; done; mkdir out; echo well >out/index.html"
    fake = await built(Held(has_init=has_init, pids=100), tmp_path, image, script)
    assert page(fake) == "well\n"


async def test_a_command_that_is_killed_for_its_memory_is_told_so(image: str, tmp_path: Path) -> None:
    eat = "python3 -c 'b = [bytearray(1 << 20) for _ in range(2000)]'"
    fake = await built(Held(memory_mib=200), tmp_path, image, f"{eat} || exit 1")
    reason, message = why(fake)
    assert reason == "out_of_memory"
    assert re.search(r"peak was (19\d|200) MiB.*builds\.memory_mib", message)


@pytest.mark.parametrize("users", USERS)
async def test_a_folder_that_was_closed_counts_all_the_same(image: str, tmp_path: Path, users: str) -> None:
    script = "mkdir big; cd big; head -c 90M /dev/zero >x; chmod 0 . ; sleep 30"
    fake = await built(USERS[users], tmp_path, image, script, limits={"disk_bytes": 40 << 20})
    assert why(fake)[0] == "disk_full"
    assert re.search(r"may take 40 MiB.*builds\.disk_mib", why(fake)[1])


@pytest.mark.parametrize("users", USERS)
async def test_a_folder_for_temporary_files_that_lies_on_a_disk_counts(image: str, tmp_path: Path, users: str) -> None:
    """As on ECS, where it is the disk of the instance."""
    held = replace(USERS[users], tmp="--volume=/tmp")
    fake = await built(
        held, tmp_path, image, "head -c 90M /dev/zero >/tmp/x; sleep 30", limits={"disk_bytes": 40 << 20}
    )
    assert why(fake)[0] == "disk_full"


async def test_a_folder_for_temporary_files_in_memory_is_no_disk(image: str, tmp_path: Path) -> None:
    script = "head -c 90M /dev/zero >/tmp/x; sleep 3; mkdir out; echo well >out/index.html"
    assert page(await built(Held(), tmp_path, image, script, limits={"disk_bytes": 40 << 20})) == "well\n"


async def test_authorities_of_a_company_reach_commands(image: str, tmp_path: Path) -> None:
    script = 'mkdir out; cat "$NODE_EXTRA_CA_CERTS" >out/index.html; env | grep -c =/work/ca.pem >>out/index.html'
    fake = await built(Held(), tmp_path, image, script, ca_bundle="an authority\n")
    assert page(fake).split("\n")[:2] == ["an authority", "7"]


async def test_the_builder_runs_nothing_where_it_is_not_the_first(image: str, tmp_path: Path) -> None:
    """It would kill the processes of others."""
    held = Held(words=("--entrypoint", "sh"), command=("-c", "python3 -I /opt/scalemesh/builder.pyz; echo ended $?"))
    async with a_daemon(tmp_path, "true") as fake:
        _, said = await run(held, fake.socket.parent, image)
        assert "first process of a container" in said
        assert "ended 3" in said
        assert not fake.nonces


async def test_a_container_that_was_told_nothing_says_what_it_lacks(image: str, tmp_path: Path) -> None:
    code, said = await run(Held(environ={"SCALEMESH_TOKEN": ""}), tmp_path, image)
    assert code == 3
    assert said.startswith("builder: no token")


@pytest.mark.parametrize("users", USERS)
async def test_a_proof_tells_that_all_is_well(image: str, tmp_path: Path, users: str) -> None:
    async with a_daemon(tmp_path, "") as fake:
        code, said = await proven(USERS[users], fake, image)
    assert code == 0, said
    assert (said["ok"], said["reached"], said["git"], said["why"]) == (True, True, True, "")
    assert said["builder"] == said["daemon_builder"] == fingerprint()
    assert said["node"]


@pytest.mark.parametrize(
    ("held", "code", "words"),
    [
        (Held(environ={"SCALEMESH_URL": "unix:/run/scalemesh/none.sock"}), 20, "cannot be reached"),
        (Held(environ={"SCALEMESH_URL": "http://127.0.0.1:1"}), 20, "cannot be reached"),
        (Held(environ={"SCALEMESH_NODES": "/nowhere"}), 22, "no Node runs from SCALEMESH_NODES"),
        (Held(environ={"SCALEMESH_WORK": "/usr"}), 22, "/usr cannot be written"),
        (Held("0:0", ("DAC_OVERRIDE",)), 22, "user commands cannot run as their own user"),
    ],
)
async def test_a_proof_tells_what_is_missing(image: str, tmp_path: Path, held: Held, code: int, words: str) -> None:
    async with a_daemon(tmp_path, "") as fake:
        found, said = await proven(held, fake, image)
    assert (found, said["ok"]) == (code, False), said
    assert words in said["why"]


async def test_a_proof_tells_of_another_builder(image: str, tmp_path: Path) -> None:
    async with a_daemon(tmp_path, "") as fake:
        fake.builder = "another"
        code, said = await proven(Held(), fake, image)
    assert (code, said["reached"], said["daemon_builder"]) == (21, True, "another")
    assert f"builder {fingerprint()}" in said["why"]


@pytest.mark.parametrize(("is_named", "code"), [(True, 0), (False, 20)])
async def test_a_daemon_is_trusted_by_the_authority_that_was_named(
    image: str, tmp_path: Path, is_named: bool, code: int
) -> None:
    address = bridge_address()
    async with a_daemon(tmp_path, "") as fake:
        pem = certificate(fake.socket.parent, address)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pem)
        environ = {"SCALEMESH_URL": f"https://{address}:{await fake.listen(address, context)}"}
        environ |= {"SCALEMESH_CA": f"/run/scalemesh/{pem.name}"} if is_named else {}
        found, said = await proven(Held(network="bridge", environ=environ), fake, image)
    assert found == code, said
    assert is_named or "CERTIFICATE_VERIFY_FAILED" in said["why"]


async def proven(held: Held, fake: FakeDaemon, image: str) -> tuple[int, Any]:
    """The exit code and what was said by a container that only proves that builds could run."""
    last = fake.socket.parent / "last"
    last.touch()
    last.chmod(0o666)
    words = (*held.words, f"--volume={last}:/dev/termination-log")
    asked = replace(held, words=words, command=("proof",))
    code, said = await run(asked, fake.socket.parent, image)
    assert last.read_text() == said.strip().splitlines()[-1]
    return code, json.loads(last.read_text())
