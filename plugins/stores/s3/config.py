"""The settings of the S3 store."""

from dataclasses import dataclass

from plugins.stores.buckets.config import BucketConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Config(BucketConfig):
    """The table ``[store.s3]``."""

    profile: str = ""  #: of the files ~/.aws/config and credentials
