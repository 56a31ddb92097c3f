"""The environment of git and of user commands: small, explicit, and nothing of the builder's own."""

import re
from collections.abc import Mapping
from typing import Final

from builder.fetch import Facts
from builder.job import GitSource, Job, UploadSource

#: What the operator may set for builds by setting it for the builder: authorities, and the language of messages.
PASSED_ON: Final = (
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "npm_config_cafile",
    "LANG",
    "TMPDIR",
    "TZ",
)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PROVIDERS: Final = ("github", "gitlab", "bitbucket")


def machine(
    environ: Mapping[str, str], operator: Mapping[str, str], proxy: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What every program of a build, Git included, needs to know of the machine and of what its *operator* set.

    *proxy*: variables that lead to the daemon's own. Where a build has it, it has no other way.
    """
    found = {name: environ[name] for name in PASSED_ON if environ.get(name)}
    found.setdefault("LANG", "C.UTF-8")
    path = environ.get("PATH") or "/usr/local/bin:/usr/bin:/bin"
    return {**found, **operator, "PATH": path, **(proxy or {})}


def for_commands(
    job: Job, facts: Facts | None, base: Mapping[str, str], framework: Mapping[str, str], home: str
) -> tuple[dict[str, str], list[str]]:
    """The environment of user commands, and the names that cannot be passed on.

    A later source wins: machine, defaults, framework, Git, operator, daemon, the project's own. PATH comes from us.
    """
    wanted = {
        **base,
        "HOME": home,
        "USER": "build",
        "SHELL": "/bin/sh",
        "CI": "1",
        "SCALEMESH": "1",
        "VERCEL": "1",
        "npm_config_cache": f"{home}/.npm",
        "npm_config_update_notifier": "false",
        "npm_config_fund": "false",
        "npm_config_audit": "false",
        "COREPACK_ENABLE_DOWNLOAD_PROMPT": "0",
        **framework,
        **_git(job.source, facts),
        **{name: base[name] for name in job.operator_env},
        **job.public_env,
        **job.env,
        "PATH": base["PATH"],
    }
    refused = [name for name, value in wanted.items() if not _NAME.fullmatch(name) or "\0" in value]
    return {name: value for name, value in wanted.items() if name not in refused}, refused


def _git(source: GitSource | UploadSource, facts: Facts | None) -> dict[str, str]:
    if facts is None or not isinstance(source, GitSource):
        return {}
    found = {
        "VERCEL_GIT_COMMIT_SHA": facts.commit,
        "VERCEL_GIT_COMMIT_REF": facts.branch or "",
        "VERCEL_GIT_COMMIT_MESSAGE": facts.message[:2048],
        "VERCEL_GIT_COMMIT_AUTHOR_NAME": facts.author,
        "SCALEMESH_GIT_COMMIT": facts.commit,
        "SCALEMESH_GIT_BRANCH": facts.branch or "",
    }
    match = re.search(r"(?:://|@)?(?:[^/@]*@)?([\w.-]+)(?::\d+)?[:/](?:(.*)/)?([^/]+?)(?:\.git)?/?$", source.url)
    if match:
        provider = next((name for name in _PROVIDERS if name in match[1]), "")
        found.update(
            VERCEL_GIT_PROVIDER=provider,
            VERCEL_GIT_REPO_OWNER=match[2] or "",
            VERCEL_GIT_REPO_SLUG=match[3],
        )
    return found
