"""Build jobs as Jobs of a Kubernetes cluster."""

from plugins.executors.kubernetes.config import KubernetesConfig
from plugins.executors.kubernetes.executor import KubernetesExecutor

__all__ = ["KubernetesConfig", "KubernetesExecutor"]
