"""Who we are to the cluster: a client by the kubeconfig or the pod's own account, with credentials that are renewed."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

from plugins.executors.kubernetes.config import KubernetesConfig
from plugins.executors.kubernetes.words import is_unknown
from scalemesh.errors import ConfigError

log = logging.getLogger(__name__)
RENEW_S: Final = 30.0  #: credentials that were just read are not read again before: that may run a program


class Access:
    """One client for all threads. Where the cluster does not know us, its credentials are read anew.

    The client's own library renews only what it once had: a plug-in that failed when the daemon began would leave it a
    stranger for ever, and so would a token that somebody replaced in the file.
    """

    def __init__(self, config: KubernetesConfig, connections: int, renew_s: float = RENEW_S) -> None:
        """Read who we are. It may take a while.

        Raises:
            ConfigError: no such kubeconfig or context, or no pod of a cluster.
        """
        self._config, self._connections, self._renew_s = config, connections, renew_s
        self._renewing = threading.Lock()
        self._renewals, self._renewed_at = 0, float("-inf")
        self.client: Final = ApiClient(self._read())

    @property
    def has_credentials(self) -> bool:
        """Whether there is anything by which the cluster could know us."""
        found = self.client.configuration
        return bool(found.api_key or found.cert_file)

    def asked(self, call: Callable[[], Any]) -> Any:
        """What *call* returns; it is called again with new credentials if the cluster did not know the old ones."""
        before = self._renewals
        try:
            return call()
        except ApiException as error:
            if not is_unknown(error) or not self._renew(before):
                raise
        return call()

    def close(self) -> None:
        client: Any = self.client  # versions of it differ in what is typed
        client.rest_client.pool_manager.clear()
        with suppress(AttributeError, TypeError):
            client.close()

    def _renew(self, before: int) -> bool:
        """Whether there are credentials that were read after the renewal number *before*."""
        with self._renewing:
            if self._renewals != before:
                return True
            if time.monotonic() - self._renewed_at < self._renew_s:
                return False
            self._renewed_at = time.monotonic()
            try:
                fresh = ApiClient(self._read())
            except ConfigError as error:
                log.warning("the kubeconfig cannot be read anew", extra={"error": str(error)})
                return False
            # In place, since whoever asks holds this client; streams that are open end by themselves.
            self.client.configuration, self.client.rest_client = fresh.configuration, fresh.rest_client
            self._renewals += 1
            return True

    def _read(self) -> Configuration:
        found = Configuration()
        by_file: Any = load_kube_config  # versions of the client differ in what is typed
        by_pod: Any = load_incluster_config
        try:
            if self._config.kubeconfig is not None:
                by_file(
                    config_file=str(self._config.kubeconfig.expanduser()),
                    context=self._config.context or None,
                    client_configuration=found,
                    persist_config=False,
                )
            else:
                by_pod(client_configuration=found)
        except (ConfigException, OSError, ValueError) as error:
            raise ConfigError(
                "[executor.kubernetes]: there is no way to a cluster",
                why=str(error)[:300],
                fix="name a kubeconfig (and context), or run the daemon as a pod with a service account",
            ) from error
        found.connection_pool_maxsize = self._connections
        found.retries = 0  # whoever asks knows better whether to ask again
        return found
