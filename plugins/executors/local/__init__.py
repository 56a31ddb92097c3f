"""Build jobs as sandboxed processes of this machine.

The supervisor of a job imports its neighbours from this package too and must start fast, so the executor
itself is loaded only when somebody asks for it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plugins.executors.local.config import LocalConfig
    from plugins.executors.local.executor import LocalExecutor

__all__ = ["LocalConfig", "LocalExecutor"]


def __getattr__(name: str) -> object:
    if name == "LocalExecutor":
        from plugins.executors.local.executor import LocalExecutor  # noqa: PLC0415 - see the module's docstring

        return LocalExecutor
    if name == "LocalConfig":
        from plugins.executors.local.config import LocalConfig  # noqa: PLC0415 - see the module's docstring

        return LocalConfig
    raise AttributeError(name)
