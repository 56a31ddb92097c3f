"""The settings of the ECS executor."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

#: Marks what the daemon fills in from other tables: no setting for people, so no document shows it.
GIVEN: Final[Mapping[str, bool]] = {"given": True}
LAUNCH_TYPES: Final = ("FARGATE", "EC2")
ARCHITECTURES: Final = ("X86_64", "ARM64")
FARGATE_PROVIDERS: Final = frozenset({"FARGATE", "FARGATE_SPOT"})
MOST_TAGS: Final = 40  #: AWS takes 50, and ours come on top


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityProvider:
    """One of the places that share the tasks: ``base`` tasks first, the rest by ``weight``."""

    name: str
    weight: int = 1
    base: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1000:
            raise ValueError("weight must be between 0 and 1000")
        if not 0 <= self.base <= 100_000:
            raise ValueError("base must be between 0 and 100000")


@dataclass(frozen=True, slots=True, kw_only=True)
class EcsConfig:
    """The table ``[executor.ecs]``."""

    region: str = ""  #: empty: AWS_REGION, or that of the profile
    cluster: str = "default"  #: name or ARN
    endpoint_url: str = ""  #: instead of AWS's own addresses
    image: str = ""  #: the builder's, such as one in ECR; a task definition is registered with it
    task_definition: str = ""  #: instead of ``image``: a family, family:revision or ARN of your own
    launch_type: str = "FARGATE"
    capacity_providers: tuple[CapacityProvider, ...] = ()  #: instead of ``launch_type``
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    assign_public_ip: bool = False  #: needed in a public subnet on Fargate; elsewhere a NAT is the way out
    platform_version: str = "LATEST"  #: Fargate's; 1.4.0 or later
    architecture: str = "X86_64"  #: of the image, on Fargate
    cpu: int = 1024  #: CPU units of one build; 1024 are one CPU
    ephemeral_storage_gib: int = 0  #: of a task on Fargate; 0: what ``builds.disk_mib`` and the image need
    execution_role_arn: str = ""  #: with it ECS itself pulls the image and writes the log; a build never has it
    task_role_arn: str = ""  #: what code of a build may do at AWS; empty: nothing
    registry_secret_arn: str = ""  #: secret with name and password of a registry that is not ECR
    log_group: str = ""  #: CloudWatch group for what the builder itself prints; empty: nowhere
    log_region: str = ""  #: empty: ``region``
    tags: dict[str, str] = field(default_factory=dict)  #: further tags of tasks and definitions
    propagate_tags: bool = False  #: tasks take over the tags of their definition
    start_timeout_s: int = 600  #: a task that does not run by then is given up
    start_as_root: bool = False  #: lets the builder run commands under a second user of their own
    ca_path: str = ""  #: PEM file inside the image, by which the daemon's own certificate is checked
    owner: str = field(default="", metadata=GIVEN)  #: names this installation
    url: str = field(default="", metadata=GIVEN)
    build_network: str = field(default="full", metadata=GIVEN)

    def __post_init__(self) -> None:
        if bool(self.image) == bool(self.task_definition):
            raise ValueError("name an image, or a task_definition of your own: one of the two")
        if self.launch_type not in LAUNCH_TYPES:
            raise ValueError(f"launch_type must be one of {', '.join(LAUNCH_TYPES)}")
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}")
        self._check_capacity()
        self._check_bounds()

    @property
    def on_fargate(self) -> bool:
        if self.capacity_providers:
            return self.capacity_providers[0].name in FARGATE_PROVIDERS
        return self.launch_type == "FARGATE"

    def _check_capacity(self) -> None:
        kinds = {provider.name in FARGATE_PROVIDERS for provider in self.capacity_providers}
        if len(kinds) > 1:
            raise ValueError("capacity_providers: those of Fargate cannot be mixed with others")
        if len(self.capacity_providers) > 20 or sum(bool(provider.base) for provider in self.capacity_providers) > 1:
            raise ValueError("capacity_providers: at most 20, and only one of them may have a base")
        if self.on_fargate and not self.subnets:
            raise ValueError("subnets: name at least one; tasks on Fargate have an address of their own")
        if self.security_groups and not self.subnets:
            raise ValueError(
                "security_groups without subnets hold nothing: a task on EC2 then has the network of its instance; "
                "name the subnets too, for an address of its own (awsvpc), or leave security_groups out"
            )
        if self.assign_public_ip and not self.on_fargate:
            raise ValueError("assign_public_ip: only tasks on Fargate can have one")

    def _check_bounds(self) -> None:
        if not 128 <= self.cpu <= 196_608:
            raise ValueError("cpu must be between 128 and 196608 units")
        if self.ephemeral_storage_gib and not 21 <= self.ephemeral_storage_gib <= 200:
            raise ValueError("ephemeral_storage_gib must be 0, or between 21 and 200")
        if not 10 <= self.start_timeout_s <= 86_400:
            raise ValueError("start_timeout_s must be between 10 and 86400")
        self._check_lists()

    def _check_lists(self) -> None:
        if len(self.subnets) > 16 or len(self.security_groups) > 5:
            raise ValueError("at most 16 subnets and 5 security_groups")
        if len(self.tags) > MOST_TAGS or any(name.startswith(("aws:", "scalemesh.")) for name in self.tags):
            raise ValueError(f"tags: at most {MOST_TAGS}, none beginning with aws: or scalemesh.")
        self._check_roles()

    def _check_roles(self) -> None:
        if self.image and self.log_group and not self.execution_role_arn:
            raise ValueError("log_group: ECS writes the log with execution_role_arn, which is missing")
        if self.log_group and not (self.log_region or self.region):
            raise ValueError("log_region: name the region of log_group, or set region")
        if self.registry_secret_arn and not self.execution_role_arn:
            raise ValueError("registry_secret_arn: ECS reads it with execution_role_arn, which is missing")
