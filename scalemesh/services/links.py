"""The one place that writes a URL of ours."""

from typing import Final
from urllib.parse import urlsplit

from scalemesh.config import Hosts
from scalemesh.services.hosts import permalink_label, production_label
from scalemesh.values import Deployment

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Links:
    """Host names as people open them. *port* is what we listen on; ``hosts.public_url`` names a proxy before us."""

    def __init__(self, hosts: Hosts, port: int) -> None:
        seen = urlsplit(hosts.public_url or f"http://{hosts.control}:{port}")
        self._scheme = seen.scheme
        self._port = "" if seen.port in (None, DEFAULT_PORTS[seen.scheme]) else f":{seen.port}"
        self._base, self._control = hosts.base, hosts.control

    @property
    def base(self) -> str:
        """The domain that sites live below."""
        return self._base

    @property
    def is_secure(self) -> bool:
        return self._scheme == "https"

    @property
    def control(self) -> str:
        """Where the dashboard is."""
        return self.of_host(self._control)

    def of_host(self, host: str) -> str:
        """The front page of *host*, with a slash at the end."""
        return f"{self._scheme}://{host}{self._port}/"

    def production(self, project_name: str) -> str:
        return self.of_host(f"{production_label(project_name)}.{self._base}")

    def permalink(self, deployment: Deployment) -> str:
        """Where this one deployment is, for ever."""
        return self.of_host(f"{permalink_label(deployment.project_name, deployment.id)}.{self._base}")
