"""Build jobs as tasks of AWS ECS, on Fargate or on EC2 instances of the operator's own."""

from plugins.executors.ecs.config import CapacityProvider, EcsConfig
from plugins.executors.ecs.executor import EcsExecutor

__all__ = ["CapacityProvider", "EcsConfig", "EcsExecutor"]
