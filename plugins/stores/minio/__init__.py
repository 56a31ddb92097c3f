"""Blobs and uploads in a bucket of a MinIO server; by its own client."""

from plugins.stores.minio.config import MinioConfig
from plugins.stores.minio.store import MinioStore

__all__ = ["MinioConfig", "MinioStore"]
