"""What the operator wants every build to know, wherever it runs: variables, a package registry, authorities."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from scalemesh.config import Builds
from scalemesh.errors import RefusedError

MAX_BUNDLE_BYTES: Final = 1 << 20
#: Programs differ in which case they read: curl and Git know http_proxy in small letters alone.
PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
#: npm, pnpm and Yarn 1; Yarn 1 once more; Yarn from 2 on; Bun; Corepack.
REGISTRIES: Final = (
    *("npm_config_registry", "YARN_REGISTRY", "YARN_NPM_REGISTRY_SERVER"),
    *("BUN_CONFIG_REGISTRY", "COREPACK_NPM_REGISTRY"),
)


def operator_env(builds: Builds) -> dict[str, str]:
    """Variables for every program of a build, fetching included: ``builds.env``, in all spellings that programs read.

    Where the operator sets one of them otherwise, that holds.
    """
    return {**_registry(builds.npm_registry), **_proxies(builds.env), **builds.env}


def read_bundle(path: str) -> str | None:
    """The authorities that builds trust, as PEM; None where it is the system's that they do.

    Raises:
        RefusedError: the file cannot be read, is too large or holds no certificate.
    """
    if not path:
        return None
    fix = "correct builds.ca_bundle; `scalemesh check` reads it too"
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_BUNDLE_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "it is no text"
        raise RefusedError(f"builds.ca_bundle = {path!r}: cannot be read", why=why, fix=fix) from error
    if len(text) > MAX_BUNDLE_BYTES:
        raise RefusedError(f"builds.ca_bundle = {path!r}: has more than {MAX_BUNDLE_BYTES} bytes", fix=fix)
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise RefusedError(f"builds.ca_bundle = {path!r}: holds no certificate in PEM", fix=fix)
    return text


def _registry(url: str | None) -> dict[str, str]:
    if url is None:
        return {}
    found = dict.fromkeys(REGISTRIES, url)
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname:
        found["YARN_UNSAFE_HTTP_WHITELIST"] = parts.hostname  # else Yarn from 2 on asks by https alone
    return found


def _proxies(env: Mapping[str, str]) -> dict[str, str]:
    """The same proxies for programs that read another spelling."""
    said = {name: env.get(name) or env.get(name.lower(), "") for name in PROXIES}
    found = {name: value for name, value in said.items() if value}
    found |= {name.lower(): value for name, value in found.items()}
    http, https = said["HTTP_PROXY"] or said["ALL_PROXY"], said["HTTPS_PROXY"] or said["ALL_PROXY"]
    if http:
        found["YARN_HTTP_PROXY"] = http
    if https:
        found["YARN_HTTPS_PROXY"] = https
    if http or https:
        found["NODE_USE_ENV_PROXY"] = "1"
    return found
