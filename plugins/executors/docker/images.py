"""The image that jobs run: provided, compared with this release's builder, swept when it is old. Everything blocks."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from docker import auth
from docker.errors import APIError, ImageNotFound, NotFound
from docker.utils import parse_repository_tag
from requests.exceptions import RequestException

from builder.packing import fingerprint
from plugins.executors.docker.config import DockerConfig
from plugins.executors.docker.recipe import DEPLOYMENT, NEVER_BEGAN, OWNER, PART, PROOF_PREFIX
from scalemesh.errors import RefusedError, UnreachableError

LABEL: Final = "scalemesh.builder"
ORPHAN_S: Final = 60.0
CONNECT_S: Final = 30.0
SILENT_S: Final = 300.0
NEVER_STATUS: Final = frozenset({400, 401, 403, 404})
#: Of engines and registries, where asking again will not help; engines put many of these into a status of 500.
#: Whatever else is told is tried again: a registry's limit, a full disk, a cut.
NEVER: Final = (
    *("unauthorized", "no basic auth", "denied", "authentication required", "incorrect username"),
    *("manifest unknown", "name unknown", "not found", "does not exist", "no matching manifest", "invalid reference"),
    "http 404",
)


def is_wanted(client: Any, config: DockerConfig) -> bool:
    """Whether the image has to be pulled before a job can run it. The name that we make ourselves is no registry's."""
    if not config.image or config.pull == "never":
        return False
    return config.pull == "always" or _found(client, config) is None


def pull(client: Any, config: DockerConfig, *, silent_s: float = SILENT_S) -> None:
    """Pull it. Takes as long as it takes, while the engine tells of it: *silent_s* without a word is the end.

    Not by the client's own ``images.pull``: that waits for ever, and takes an error in mid-pull for the end of it.

    Raises:
        RefusedError: there is no such image for us.
        UnreachableError: it cannot be had now.
    """
    name, tag = parse_repository_tag(config.image)
    said = {"params": {"fromImage": name, "tag": tag or "latest"}, "headers": _login(client.api, config, name)}
    url = f"{client.api.base_url}/v{client.api.api_version}/images/create"
    try:
        with client.api.post(url, **said, stream=True, timeout=(CONNECT_S, silent_s)) as answer:
            for line in answer.iter_lines():
                _look_at(json.loads(line), answer.status_code, config.image)
            answer.raise_for_status()  # one without words
    except (RequestException, ValueError) as error:
        raise UnreachableError(f"image {config.image} cannot be pulled now", why=str(error)[-400:]) from error


def _login(api: Any, config: DockerConfig, name: str) -> dict[str, str]:
    """The header that the registry's user is told by; without one of ours, what the docker program keeps for it."""
    if config.registry_user:
        login = {"username": config.registry_user, "password": str(config.registry_password)}
        return {"X-Registry-Auth": auth.encode_header(login)}
    registry, _ = auth.resolve_repository_name(name)
    kept = auth.get_config_header(api, registry)
    return {"X-Registry-Auth": kept} if kept else {}


def _look_at(told: Mapping[str, Any], status: int, image: str) -> None:
    """Raise what the engine told, if that is an error: by its status, or in the midst of its tale."""
    detail = told.get("errorDetail") or {}
    why = str(told.get("error") or detail.get("message") or (told.get("message") if status >= 400 else "") or "")
    if status in NEVER_STATUS or any(word in why.lower() for word in NEVER):
        raise absent(image, f"it cannot be pulled: {why}"[-400:])
    if why:
        raise UnreachableError(f"image {image} cannot be pulled now", why=why[-400:])


def see(client: Any, config: DockerConfig) -> None:
    """See that the image is there and holds this release's builder.

    Raises:
        RefusedError: it is absent, or holds another builder.
    """
    image = _found(client, config)
    if image is None:
        raise absent(config.image_name)
    inside = (image.labels or {}).get(LABEL, "")
    if inside != fingerprint():
        what = f"builder {inside}" if inside else "no builder of ours"
        raise RefusedError(
            f"image {config.image_name} holds {what}, this daemon needs {fingerprint()}",
            fix="make it anew: scalemesh builder image build",
        )


def absent(name: str, why: str = "") -> RefusedError:
    """What a person is told of an image that is not there."""
    return RefusedError(
        f"there is no image {name} in the docker engine",
        why=why,
        fix="scalemesh builder image build, or name another by executor.docker.image",
    )


def sweep_orphans(client: Any, owner: str, older_s: float = ORPHAN_S) -> None:
    """Remove what belongs to no job, as after a kill between two steps; then volumes that nothing uses.

    Not what was made within the last *older_s*: its job may be on its way.
    """
    filters = {"label": f"{OWNER}={owner}"}
    before = datetime.now(UTC) - timedelta(seconds=older_s)
    found = list(client.containers.list(all=True, filters=filters, ignore_removed=True))
    jobs = {each.name for each in found if each.labels.get(PART) == "job" and not _is_unfinished(each)}
    for each in found:
        is_old = datetime.fromisoformat(each.attrs["Created"][:19] + "+00:00") < before
        if each.name.removesuffix("-net") not in jobs and is_old:
            with suppress(NotFound, APIError):
                each.remove(force=True, v=True)
    for volume in client.volumes.list(filters=filters):
        if volume.name not in jobs and datetime.fromisoformat(volume.attrs["CreatedAt"]) < before:
            with suppress(NotFound, APIError):  # one that a young container uses
                volume.remove()


def sweep_images(client: Any, config: DockerConfig) -> None:
    """Remove images of former releases under the name of ours, but for the newest few; used ones stay.

    Not those that never held a builder: an operator may keep others under the same name.
    """
    repository, _ = parse_repository_tag(config.image_name)
    old = [each for each in client.images.list(name=repository) if _is_former(each)]
    old.sort(key=lambda each: str(each.attrs["Created"]), reverse=True)
    for each in old[config.keep_images :]:
        with suppress(APIError):
            client.images.remove(each.id)


def _found(client: Any, config: DockerConfig) -> Any | None:
    try:
        return client.images.get(config.image_name)
    except ImageNotFound:
        return None


def _is_former(image: Any) -> bool:
    inside = (image.labels or {}).get(LABEL, "")
    return bool(inside) and inside != fingerprint()


def _is_unfinished(container: Any) -> bool:
    """Whether its start was cut off, or it is a check's whose daemon was."""
    is_proof = str(container.labels.get(DEPLOYMENT, "")).startswith(PROOF_PREFIX)
    return is_proof or bool(container.status == NEVER_BEGAN)
