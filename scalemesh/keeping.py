"""What is kept, for how long, and how full the disk may become: ``[retention]`` and ``[disk]`` of the config."""

from dataclasses import dataclass, fields
from datetime import timedelta

from scalemesh.bounds import within
from scalemesh.values import MOST_KEPT, OwnRetention


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Which deployments and logs stay. What is live, runs, or was kept by hand always does; 0: all do."""

    production: int = 20  #: production deployments of a project, besides what is live
    preview_days: int = 30
    failed_days: int = 30  #: also canceled and superseded ones
    log_days: int = 0  #: 0: a log stays as long as its deployment

    def __post_init__(self) -> None:
        for name in self.__slots__:
            within(name, getattr(self, name), 0, MOST_KEPT)

    def of(self, own: OwnRetention) -> "Retention":
        """The same with what a project has of its own."""
        names = [field.name for field in fields(self)]
        found = {name: getattr(self, name) if (value := getattr(own, name)) is None else value for name in names}
        return Retention(**found)

    @property
    def log_time(self) -> timedelta | None:
        """How long a log stays; None: as long as its deployment."""
        return timedelta(days=self.log_days) if self.log_days else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """How full the file systems may become that hold what is ours."""

    high_water_percent: int = 90  #: used; above it no build starts
    reserve_mib: int = 1024  #: free; below it nothing that needs room is taken

    def __post_init__(self) -> None:
        within("high_water_percent", self.high_water_percent, 50, 100)
        within("reserve_mib", self.reserve_mib, 0, 1 << 24)
