"""The settings of the MinIO store."""

from dataclasses import dataclass

from plugins.stores.buckets.config import BucketConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class MinioConfig(BucketConfig):
    """The table ``[store.minio]``."""

    endpoint: str
    path_style: bool = True
    region: str = "us-east-1"

    def __post_init__(self) -> None:
        super(MinioConfig, self).__post_init__()
        if not self.endpoint:
            raise ValueError("endpoint: the URL of the MinIO server, such as https://minio.example.com:9000")
