"""Authorities that a build trusts: its programs, those of a company instead of the system's; we, at a store, all."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from builder.container import is_container
from builder.job import Job
from builder.steps import Place

NAMES: Final = (
    *("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE", "PIP_CERT"),
    *("REQUESTS_CA_BUNDLE", "npm_config_cafile"),
)


def trusting(path: str) -> Mapping[str, str]:
    """The variables that lead programs to the PEM file *path*; none for an empty one."""
    return dict.fromkeys(NAMES, path) if path else {}


def trusted(job: Job, place: Place) -> Place:
    """*place* with the authorities that the job names; elsewhere than in a container the executor has seen to it."""
    if not job.ca_bundle or not is_container(place.environ):
        return place
    path = place.work / "ca.pem"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
        file.write(job.ca_bundle)
    return replace(place, environ={**place.environ, **trusting(str(path))})


def authorities(job: Job, environ: Mapping[str, str]) -> ssl.SSLContext:
    """What a store may prove itself by: the system's authorities, those named for this builder, and the job's.

    All of them, and not one instead of another as for programs: a store may be in the house, and its registry outside.
    """
    found, system = ssl.create_default_context(), ssl.get_default_verify_paths()
    named = environ.get("SSL_CERT_FILE", "")
    for file in (system.openssl_cafile, named):  # the context above has read but one of the two
        if file and Path(file).is_file():
            found.load_verify_locations(cafile=file)
    if Path(system.openssl_capath).is_dir():
        found.load_verify_locations(capath=system.openssl_capath)
    if job.ca_bundle:
        found.load_verify_locations(cadata=job.ca_bundle)
    return found
