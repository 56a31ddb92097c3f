"""Where a bucket is, by the settings of the S3 store."""

from typing import Any

import pytest

from plugins.stores.minio import MinioConfig
from plugins.stores.minio.signing import MinioSigner
from plugins.stores.s3 import S3Config
from plugins.stores.s3.signing import S3Signer
from scalemesh.values import Secret

KEYS: dict[str, Any] = {"access_key": "a", "secret_key": Secret("b")}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"region": "eu-central-1"}, "https://artifacts.s3.eu-central-1.amazonaws.com"),
        ({"region": "eu-central-1", "path_style": True}, "https://s3.eu-central-1.amazonaws.com/artifacts"),
        ({"region": "cn-north-1"}, "https://artifacts.s3.cn-north-1.amazonaws.com.cn"),
        ({"endpoint": "https://s3.example.com"}, "https://artifacts.s3.example.com"),
        ({"endpoint": "https://s3.example.com:9000/"}, "https://artifacts.s3.example.com:9000"),
        ({"endpoint": "https://s3.example.com", "path_style": True}, "https://s3.example.com/artifacts"),
        ({"endpoint": "http://127.0.0.1:9000"}, "http://127.0.0.1:9000/artifacts"),
        ({"endpoint": "http://[::1]:9000"}, "http://[::1]:9000/artifacts"),
        ({"endpoint": "http://localhost:9000"}, "http://localhost:9000/artifacts"),
    ],
)
def test_a_bucket_of_s3_is_where_the_settings_say(
    settings: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    assert S3Signer(S3Config(bucket="artifacts", **KEYS, **settings)).address() == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"endpoint": "https://minio.example.com:9000"}, "https://minio.example.com:9000/artifacts"),
        ({"endpoint": "https://minio.example.com:9000/"}, "https://minio.example.com:9000/artifacts"),
        ({"endpoint": "https://minio.example.com", "path_style": False}, "https://artifacts.minio.example.com"),
    ],
)
def test_a_bucket_of_minio_is_where_the_settings_say(settings: dict[str, Any], expected: str) -> None:
    assert MinioSigner(MinioConfig(bucket="artifacts", **KEYS, **settings)).address() == expected
