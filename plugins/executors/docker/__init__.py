"""Build jobs as containers of a Docker engine, here or elsewhere."""

from plugins.executors.docker.config import DockerConfig
from plugins.executors.docker.executor import DockerExecutor

__all__ = ["DockerConfig", "DockerExecutor"]
