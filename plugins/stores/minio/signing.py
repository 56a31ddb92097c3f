"""Signs with the client of MinIO, and lets it find credentials and the bucket's address."""

import os
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import urllib3
from minio import time as minio_time
from minio.credentials.credentials import Credentials
from minio.credentials.providers import (
    AWSConfigProvider,
    ChainedProvider,
    EnvAWSProvider,
    EnvMinioProvider,
    IamAwsProvider,
    MinioClientConfigProvider,
    Provider,
    StaticProvider,
)
from minio.helpers import BaseURL, quote
from minio.signer import presign_v4, sign_v4_s3
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout

from plugins.stores.minio.config import MinioConfig
from scalemesh.errors import UnreachableError
from scalemesh.values import SignedRequest

_ROLE_LIMIT_S: Final = 2.0
_ROLE_WORDS: Final = (
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)


class MinioSigner:
    """A Signer."""

    def __init__(self, config: MinioConfig, now: Callable[[], datetime] = minio_time.utcnow) -> None:
        self._config, self._now = config, now
        self._provider = _provider(config)
        self._asking = threading.Lock()
        self._address = _address(config, config.endpoint)
        self._public = _address(config, config.public_endpoint or config.endpoint)

    def address(self) -> str:
        return self._address

    def region(self) -> str:
        return self._config.region

    def signed(self, method: str, url: str, headers: Mapping[str, str], payload: str) -> Mapping[str, str]:
        credentials, now, parts = self._credentials(), self._now(), urlsplit(url)
        words: dict[str, str | list[str] | tuple[str]] = {
            **headers,
            "Host": parts.netloc,
            "x-amz-date": minio_time.to_amz_date(now),
            "x-amz-content-sha256": payload,
        }
        if credentials.session_token:
            words["x-amz-security-token"] = credentials.session_token
        signed = sign_v4_s3(
            method=method,
            url=parts,
            region=self._config.region,
            headers=words,
            credentials=credentials,
            content_sha256=payload,
            date=now,
        )
        return {name: str(value) for name, value in signed.items()}

    def upload(self, key: str, headers: Mapping[str, str], payload: str, expires_s: int) -> SignedRequest:
        """Signed in its headers: this client cannot sign headers, and so no digest or size, into a URL.

        The server takes it for 15 minutes from now, as it does every request: that is *expires_s*, and cannot be less.
        """
        url = f"{self._public}/{quote(key)}"
        signed = self.signed("PUT", url, headers, payload)
        return SignedRequest(url=url, headers={name: value for name, value in signed.items() if name != "Host"})

    def download(self, key: str, expires_s: int) -> SignedRequest:
        credentials = self._credentials()
        token = f"X-Amz-Security-Token={quote(credentials.session_token, '')}" if credentials.session_token else ""
        url = presign_v4(
            method="GET",
            url=urlsplit(f"{self._public}/{quote(key)}?{token}".rstrip("?")),
            region=self._config.region,
            credentials=credentials,
            date=self._now(),
            expires=int(timedelta(seconds=expires_s).total_seconds()),
        )
        return SignedRequest(url=urlunsplit(url))

    def _credentials(self) -> Credentials:
        with self._asking:  # providers renew what has expired, and are not made for several threads
            try:
                return self._provider.retrieve()
            except (ValueError, OSError, HTTPError) as error:
                fix = "set store.minio.access_key and secret_key, or MINIO_ACCESS_KEY and MINIO_SECRET_KEY"
                raise UnreachableError("there are no credentials for the store", why=str(error), fix=fix) from error


def _provider(config: MinioConfig) -> Provider:
    """The keys of the settings, or the first of the usual places that has some."""
    if config.access_key:
        return StaticProvider(config.access_key, config.secret_key)
    chain: list[Provider] = [EnvMinioProvider(), EnvAWSProvider(), AWSConfigProvider(), MinioClientConfigProvider()]
    has_role = any(os.environ.get(word) for word in _ROLE_WORDS)
    if has_role or os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true":
        limit = Timeout(connect=_ROLE_LIMIT_S, read=_ROLE_LIMIT_S)
        chain.append(IamAwsProvider(http_client=urllib3.PoolManager(retries=Retry(1), timeout=limit)))
    return ChainedProvider(chain)


def _address(config: MinioConfig, endpoint: str) -> str:
    base = BaseURL(endpoint, config.region)
    base.virtual_style_flag = not config.path_style
    url = base.build(method="GET", region=config.region, bucket_name=config.bucket, object_name="k")
    return urlunsplit(url).removesuffix("/k")
