"""nginx, Caddy and the bare loop, each set up as well as its own configuration allows for these sites."""

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.bench.measure import PeerError
from tests.bench.serving.bench import Bench, Served
from tests.bench.serving.peers import HERE

START_S: Final = 20.0
STOP_S: Final = 10.0
#: As many headers of the same length as ours, so that an answer costs the same bytes.
OURS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Scalemesh-Deployment": "dpl_abcdefghij0123456789",
    "X-Request-Id": "0123456789abcdef",
}
REVALIDATE: Final = "public, max-age=0, must-revalidate"
FOR_EVER: Final = "public, max-age=31536000, immutable"

#: sendfile spares it most of the work of large files, and costs it a tenth more for a page of 2 KB: pages go without.
NGINX: Final = """
{module}
user root;
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
pcre_jit on;
events {{ worker_connections 4096; multi_accept on; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
  open_file_cache max=20000 inactive=3600s;
  open_file_cache_valid 3600s;
  open_file_cache_min_uses 1;
  open_file_cache_errors on;
  gzip_static on;
  gzip_vary on;
  {brotli}
  etag on;
  absolute_redirect off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  types {{ text/html html; text/css css; text/javascript js; video/mp4 mp4; }}
  charset utf-8;
  charset_types text/html text/css text/javascript;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {sites}/$host;
    {ours}
    add_header Cache-Control "{revalidate}";
    error_page 404 /404.html;
    location = / {{ sendfile off; try_files /index.html =404; }}
    location = /404.html {{ internal; sendfile off; {ours} add_header Cache-Control no-store always; }}
    location /assets/ {{ {ours} add_header Cache-Control "{for_ever}"; }}
    location /old/ {{ rewrite ^/old/(.*)$ /new/$1 permanent; }}
  }}
}}
"""

CADDY: Final = """
{{
  admin off
  auto_https off
  persist_config off
  storage file_system {folder}
  log {{
    level ERROR
  }}
}}
http://:{port} {{
  bind 127.0.0.1
  root * {sites}/{{host}}
  header {{
    {ours}
  }}
  @assets path /assets/*
  header @assets Cache-Control "{for_ever}"
  @others not path /assets/*
  header @others Cache-Control "{revalidate}"
  @old path_regexp old ^/old/(.*)$
  redir @old /new/{{re.old.1}} 301
  file_server {{
    precompressed br gzip
  }}
  handle_errors 404 {{
    rewrite * /404.html
    header Cache-Control no-store
    file_server
  }}
}}
"""


@asynccontextmanager
async def nginx(bench: Bench, sites: Path) -> AsyncIterator[Served]:
    """Serve the folders below *sites* by nginx with one worker."""
    folder, port, module = bench.folder / "nginx", free_port(), bench.programs.brotli
    folder.mkdir()
    (folder / "nginx.conf").write_text(
        NGINX.format(
            module=f"load_module {module};" if module else "",
            brotli="brotli_static on;" if module else "",
            ours="".join(f'add_header {name} "{value}" always; ' for name, value in OURS.items()),
            **_places(folder, sites, port),
        )
    )
    command = [
        str(bench.programs.nginx),
        "-p",
        str(folder),
        "-c",
        str(folder / "nginx.conf"),
        "-e",
        str(folder / "error.log"),
    ]
    async with _served(bench, command, port, folder, bench.programs.environ) as served:
        yield served


@asynccontextmanager
async def caddy(bench: Bench, sites: Path) -> AsyncIterator[Served]:
    """The same by Caddy."""
    folder, port = bench.folder / "caddy", free_port()
    folder.mkdir()
    ours = "\n    ".join(f'{name} "{value}"' for name, value in OURS.items())
    (folder / "Caddyfile").write_text(CADDY.format(ours=ours, **_places(folder, sites, port)))
    command = [str(bench.programs.caddy), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    environ = {**os.environ, "GOMAXPROCS": "1", "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    async with _served(bench, command, port, folder, environ) as served:
        yield served


@asynccontextmanager
async def loop(bench: Bench, answers: Mapping[str, bytes]) -> AsyncIterator[Served]:
    """Answer by the bare loop in C; *answers*: "host path" -> the whole answer."""
    folder, port = bench.folder / "loop", free_port()
    folder.mkdir()
    records = (struct.pack("<II", len(key), len(raw)) + key.encode() + raw for key, raw in answers.items())
    (folder / "answers").write_bytes(b"".join(records))
    async with _served(
        bench, [str(bench.programs.loop), str(port), str(folder / "answers")], port, folder, os.environ
    ) as served:
        yield served


@asynccontextmanager
async def constant(bench: Bench, size_bytes: int) -> AsyncIterator[Served]:
    """Answer everything by one constant answer, from the event loop that the daemon uses."""
    folder, port = bench.folder / f"constant-{size_bytes}", free_port()
    folder.mkdir()
    command = [sys.executable, str(HERE / "constant.py"), str(port), str(size_bytes)]
    async with _served(bench, command, port, folder, os.environ) as served:
        yield served


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _places(folder: Path, sites: Path, port: int) -> dict[str, object]:
    return {"folder": folder, "sites": sites, "port": port, "revalidate": REVALIDATE, "for_ever": FOR_EVER}


@asynccontextmanager
async def _served(
    bench: Bench, command: Sequence[str], port: int, folder: Path, environ: Mapping[str, str]
) -> AsyncIterator[Served]:
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen([*bench.cores.serving(), *command], stdout=said, stderr=said, env=dict(environ))
    try:
        await _until_it_listens(process, port, folder / "said")
        yield Served(port=port, pid=process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _until_it_listens(process: subprocess.Popen[bytes], port: int, said: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        await writer.wait_closed()
        return
    raise PeerError(f"`{process.args!r}` does not serve:\n{said.read_text(errors='replace')[-2000:]}")
