"""Words that the builder and the daemon share. Stdlib only; the daemon imports this file, never the reverse.

All calls are JSON over HTTP/1.1 to ``SCALEMESH_URL`` (``http(s)://host[:port]`` or ``unix:/path/to/socket``) with
``Authorization: Bearer <token>``, and after the claim with ``SCALEMESH-Nonce: <the claim's nonce>``: a token that
somebody saw in a job's description is a spent ticket once its builder has made the claim. Every call may be repeated.
Answers besides 2xx are problem+json (``{"title", "detail", "fix", "code"}``). One that is not comes from a proxy on the
way and is no answer, whatever its status, but for 413:

    401 the token is no token of ours, or it has expired            -> give up, exit 3
    409 another builder holds this attempt: another nonce claimed   -> give up, exit 3
    410 this attempt is over: newer attempt, cancelled, finished    -> give up, exit 3
    422 what was said is refused, the deployment fails with it      -> give up, exit 1
    400, 413 a bug or an over-size call                             -> give up, exit 1
    anything else, or no answer                                     -> again, with back-off, up to GIVE_UP_S

GET  /build/v1/hello          -> {"builder": str}, the fingerprint of the builder that the daemon needs; asks no token
POST /build/v1/claim          {"nonce": str, "builder"?: fingerprint of the builder that asks} -> a Claim (below)
POST /build/v1/lines          {"seq": int from 1, "lines": [[at_ms, stream, step, text], ...]} -> {"next": int}
POST /build/v1/heartbeat      {"facts"?: Facts} -> {"cancel": bool}
POST /build/v1/blobs          {"digests": [{"sha256": str, "size": int}, ...]} (up to MAX_DIGESTS)
                              -> {"missing": [{"sha256": str, "put": {"url": str, "headers": {}}}, ...]}
                              a url that starts with "/" is on SCALEMESH_URL itself, sent with the same token; any other
                              leads to the store: a PUT with exactly those headers and without the token, good for
                              15 minutes, asked for again by the same call. What is asked for counts towards the
                              limits of an output, whether it is sent or not
PUT  /build/v1/blobs/<sha256> the bytes, with Content-Length -> 204; takes any digest that is missing, whatever its url
GET  /build/v1/source/<sha256> one file of an uploaded source -> the bytes
GET  /build/v1/cache?kind=&key=&prefix=
                              -> {"entry": Entry | null}: what earlier builds kept under that key, or else the newest
                              under a key with that prefix; the daemon knows whose archives this build may read
GET  /build/v1/cache/blobs/<sha256> -> the bytes of such an entry
POST /build/v1/cache/blobs    {"sha256": str, "size": int} -> {"put": {"url": str, "headers": {}} | null}
                              where an archive is to be sent, as above, but it counts towards no limit of an output;
                              null: its bytes are there
PUT  /build/v1/cache/blobs/<sha256> the bytes, with Content-Length -> 204
POST /build/v1/cache          {"kind": one of CACHE_KINDS, "key": str, "sha256": str, "size": int, "unpacked": int,
                              "seconds": float} -> {"kept": bool}: keep what was sent for later builds
POST /build/v1/finish         a Success or a Failure -> {"state": str}; repeats answer the same

Claim = {"deployment": str, "attempt": int,    the token's own, for whoever looks at the calls
  "source": {"kind": "git", "url": str, "branch": str | null, "commit": str | null,
             "credentials": {"username": str, "password": str} | null,
             "allow": ["https", "ssh", ...], "file_root": str | null}
          | {"kind": "upload", "files": [[path, sha256, size, is_executable], ...]},
  "settings": {"root_directory": str, "framework": str | null, "install_command": str | null,
               "build_command": str | null, "output_directory": str | null, "node_version": str | null},
  "env": {name: value},          for user commands; its values are masked in lines (see masking)
  "operator_env": {name: value}, for the fetch and for user commands; not secret, not masked (proxies, a registry)
  "public_env": {name: value},   for user commands; not secret, not masked (CI, VERCEL_URL, ...)
  "limits": {"time_s": int, "disk_bytes": int, "pids": int, "output_bytes": int, "output_files": int,
             "log_bytes": int},
  "cache": {"reads": bool, "writes": bool, "archive_bytes": int},
  "ca_bundle": str | null}       PEM: authorities that the fetch and the commands trust, instead of the system's

Entry = {"key": str, "sha256": str, "size": int, "unpacked": int, "seconds": float,
  "get": {"url": str, "headers": {}}}   seconds: what the work took that this spares; get: as "put", for a GET

Facts = {"commit": str, "branch": str | null, "default_branch": str | null, "message": str, "author": str}

Success = {"ok": true, "files": [[path, sha256, size], ...], "framework": slug, "output_directory": str,
           "warnings": [str, ...]}
           files below RULES_FOLDER are rule files of the source (vercel.json, netlify.toml, ...): read, never served
Failure = {"ok": false, "reason": one of REASONS, "message": one sentence, "peak": {name: number}}

The proxy of builds without a network of their own (SCALEMESH_PROXY, ``unix:/path``) hears ``proxy_greeting`` first,
then what any HTTP proxy hears. All that it answers, a refusal of the greeting too, is what an HTTP proxy answers.
"""

from typing import Final

NONCE_HEADER: Final = "SCALEMESH-Nonce"
PROXY_WORD: Final = "SCALEMESH"  #: how a greeting begins

STEPS: Final = (
    "queue",
    "fetch",
    "detect",
    "restore",
    "install",
    "save",
    "build",
    "collect",
    "upload",
    "publish",
    "end",
)
CACHE_KINDS: Final = ("modules", "dependencies", "framework")
STREAMS: Final = ("out", "err", "system")

REASONS: Final = (
    "clone_failed",
    "no_output",
    "command_failed",
    "timed_out",
    "out_of_memory",
    "too_many_processes",
    "disk_full",
    "output_too_large",
    "too_many_files",
    "lost",
    "rejected",
    "skipped",
    "internal",
)

MAX_LINE_BYTES: Final = 16 * 1024  #: UTF-8; longer lines are split
MAX_BLOCK_LINES: Final = 500
MAX_BLOCK_BYTES: Final = 512 * 1024
MAX_DIGESTS: Final = 1000
MAX_PATH_BYTES: Final = 1024  #: of one file in the output
RULES_FOLDER: Final = ".scalemesh"  #: where a listing keeps the rule files of the source
#: Rule files that are taken along from the root directory of a source.
IN_SOURCE: Final = ("vercel.json", "netlify.toml", "wrangler.toml", "wrangler.jsonc", "wrangler.json")
IN_OUTPUT: Final = frozenset({"_redirects", "_headers", "vercel.json", "netlify.toml"})  #: rule files, at its top
MAX_RULE_FILE_BYTES: Final = 2 * 1024 * 1024  #: of one; the longest that the limits of their hosts allow is smaller
MOST_FUNCTIONS: Final = 1000  #: whose configuration is taken along, to name them as not served
MOST_RULE_FILES: Final = MOST_FUNCTIONS + 16  #: of one source; they are allowed beside the files of the output
MIN_SECRET_CHARS: Final = 6  #: shorter values are not masked

HEARTBEAT_S: Final = 5
GIVE_UP_S: Final = 300  #: after so long without an answer from the daemon the builder ends the build

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1  #: told the daemon why
EXIT_GIVEN_UP: Final = 3  #: could not tell, or was told to go
#: Of the word ``proof`` (builder.proof): the daemon is not reached, needs another builder, something else is missing.
EXIT_UNREACHED: Final = 20
EXIT_OTHER_BUILDER: Final = 21
EXIT_LACKING: Final = 22


def proxy_greeting(token: str, nonce: str) -> bytes:
    """The line that a connection to the daemon's proxy begins with: whose build it is for."""
    return f"{PROXY_WORD} {token} {nonce}\r\n".encode("ascii")
