"""Authorities that a build trusts instead of the system's: those of a company whose proxy signs all that passes."""

import os
from collections.abc import Mapping
from dataclasses import replace
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
