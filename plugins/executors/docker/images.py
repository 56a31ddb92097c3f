"""The image that jobs run: provided, compared with this release's builder, swept when it is old. Everything blocks."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from docker.errors import APIError, ImageNotFound, NotFound

from builder.packing import fingerprint
from plugins.executors.docker.config import DockerConfig
from plugins.executors.docker.recipe import OWNER, PART
from scalemesh.errors import RefusedError

LABEL: Final = "scalemesh.builder"
ORPHAN_S: Final = 60.0


def provide(client: Any, config: DockerConfig) -> None:
    """See that the image is there and holds this release's builder.

    Raises:
        RefusedError: it is absent and cannot be had, or holds another builder.
    """
    image = None
    if config.pull != "always":
        with suppress(ImageNotFound):
            image = client.images.get(config.image_name)
    if image is None and config.pull != "never" and _may_be_pulled(config):
        image = _pulled(client, config)
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
    """Remove networks' holders and volumes whose job has no container, as after a kill between two steps.

    Not those made within the last *older_s*: their job may be on its way.
    """
    filters = {"label": f"{OWNER}={owner}"}
    before = datetime.now(UTC) - timedelta(seconds=older_s)
    orphans = list(client.containers.list(all=True, filters=filters, ignore_removed=True))
    jobs = {each.name for each in orphans if each.labels.get(PART) == "job"}
    for each in orphans:
        is_old = datetime.fromisoformat(each.attrs["Created"][:19] + "+00:00") < before
        if each.labels.get(PART) == "network" and each.name.removesuffix("-net") not in jobs and is_old:
            with suppress(NotFound, APIError):
                each.remove(force=True, v=True)
    for volume in client.volumes.list(filters=filters):
        if volume.name not in jobs and datetime.fromisoformat(volume.attrs["CreatedAt"]) < before:
            with suppress(NotFound, APIError):
                volume.remove()


def sweep_images(client: Any, config: DockerConfig) -> None:
    """Remove images of former releases under the name of ours, but for the newest few; used ones stay."""
    repository = config.image_name.rpartition(":")[0] or config.image_name
    old = [each for each in client.images.list(name=repository) if (each.labels or {}).get(LABEL) != fingerprint()]
    old.sort(key=lambda each: str(each.attrs["Created"]), reverse=True)
    for each in old[config.keep_images :]:
        with suppress(APIError):
            client.images.remove(each.id)


def _may_be_pulled(config: DockerConfig) -> bool:
    """The name that we make ourselves is no registry's."""
    return bool(config.image)


def _pulled(client: Any, config: DockerConfig) -> Any:
    login = None
    if config.registry_user:
        login = {"username": config.registry_user, "password": config.registry_password}
    name, _, tag = (
        config.image.rpartition(":") if ":" in config.image.rpartition("/")[2] else (config.image, "", "latest")
    )
    try:
        return client.images.pull(name, tag=tag, auth_config=login)
    except (NotFound, APIError) as error:
        raise absent(config.image_name, f"it cannot be pulled: {error.explanation or error}"[-400:]) from error
