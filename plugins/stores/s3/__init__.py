"""Blobs and uploads in a bucket of Amazon S3, or of what speaks as it does; by boto3."""

from plugins.stores.s3.config import S3Config
from plugins.stores.s3.store import S3Store

__all__ = ["S3Config", "S3Store"]
