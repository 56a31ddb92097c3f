"""The settings of the Kubernetes executor."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

#: Marks what the daemon fills in from other tables: no setting for people, so no document shows it.
GIVEN: Final[Mapping[str, bool]] = {"given": True}
OUR_PREFIX: Final = "scalemesh.dev/"
MOST_WORDS: Final = 50  #: labels, annotations, selectors, tolerations, secrets
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """A taint of nodes that builds put up with, in Kubernetes' own words."""

    key: str = ""  #: empty: every taint
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""  #: empty: every effect

    def __post_init__(self) -> None:
        if not self.key and self.operator != "Exists":
            raise ValueError('a toleration without a key needs operator = "Exists"')
        if self.operator == "Exists" and self.value:
            raise ValueError('operator = "Exists" takes no value')


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesConfig:
    """The table ``[executor.kubernetes]``."""

    image: str = ""  #: the builder's, by the name under which nodes pull it
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()  #: names of Secrets of the namespace
    namespace: str = "scalemesh-builds"
    kubeconfig: Path | None = None  #: None: the daemon is a pod of the cluster and uses its service account
    context: str = ""  #: of the kubeconfig; empty: its current one
    service_account: str = ""  #: that pods of builds have, without its token; empty: the namespace's default
    cpu_request: float = 0.5  #: processors that a node must have left for a build
    cpu_limit: float = 0.0  #: at most so many processors for one build; 0: as many as there are
    tmp_mib: int = 1024  #: /tmp of a build
    priority_class: str = ""
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)  #: further ones, of Jobs and pods
    annotations: dict[str, str] = field(default_factory=dict)
    start_timeout_s: int = 300  #: a pod that does not run by then is given up
    node_lost_s: int = 60  #: a build whose node is not heard for so long, after the cluster noticed, is lost
    keep_s: int = 86400  #: an ended Job that nobody asks for any more is removed by the cluster
    owner: str = field(default="", metadata=GIVEN)  #: names this installation
    url: str = field(default="", metadata=GIVEN)
    socket: str = field(default="", metadata=GIVEN)
    build_network: str = field(default="full", metadata=GIVEN)
    ca_bundle: str = field(default="", metadata=GIVEN)

    def __post_init__(self) -> None:
        if not self.image:
            raise ValueError("image: name the builder's image, as the cluster's nodes find it")
        if not _NAME.fullmatch(self.namespace):
            raise ValueError(f"namespace = {self.namespace!r}: must be a name of lower-case letters, digits and -")
        if not 0.01 <= self.cpu_request <= 1024:
            raise ValueError("cpu_request must be between 0.01 and 1024 processors")
        if self.cpu_limit and not self.cpu_request <= self.cpu_limit <= 1024:
            raise ValueError("cpu_limit must be 0, or between cpu_request and 1024 processors")
        self._check_whole_numbers()
        self._check_words()

    def _check_whole_numbers(self) -> None:
        bounds = {
            "tmp_mib": (1, 1 << 20),
            "start_timeout_s": (5, 86_400),
            "node_lost_s": (1, 86_400),
            "keep_s": (60, 30 * 86_400),
        }
        for name, (least, most) in bounds.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be between {least} and {most}")

    def _check_words(self) -> None:
        for name in ("image_pull_secrets", "node_selector", "tolerations", "labels", "annotations"):
            if len(getattr(self, name)) > MOST_WORDS:
                raise ValueError(f"{name}: at most {MOST_WORDS}")
        taken = [name for name in (*self.labels, *self.annotations) if name.startswith(OUR_PREFIX)]
        if taken:
            raise ValueError(f"labels, annotations: {taken[0]}: {OUR_PREFIX} is ours")
