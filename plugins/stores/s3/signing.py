"""Signs with botocore, and lets boto3 find credentials, region and the bucket's address."""

import ipaddress
import threading
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

import boto3
from botocore import UNSIGNED
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from plugins.stores.s3.config import S3Config
from scalemesh.errors import UnreachableError
from scalemesh.values import SignedRequest

_SERVICE: Final = "s3"
_IMDS_TRIES: Final = 2


class _Signature(S3SigV4Auth):  # type: ignore[misc]  # botocore carries no types
    """Signs for the digest that the caller knows already, instead of hashing the body again."""

    def __init__(self, credentials: Any, region: str, payload: str) -> None:
        super().__init__(credentials, _SERVICE, region)
        self._payload = payload

    def payload(self, request: Any) -> str:
        return self._payload


class S3Signer:
    """A Signer. The session is made when it is first needed: it reads files, and may ask the network for a role."""

    def __init__(self, config: S3Config) -> None:
        self._config = config
        self._making = threading.Lock()
        self._session: Any = None
        self._made: tuple[Any, str, str, str] | None = None

    def address(self) -> str:
        return self._found()[2]

    def region(self) -> str:
        return self._found()[1]

    def signed(self, method: str, url: str, headers: Mapping[str, str], payload: str) -> Mapping[str, str]:
        credentials, region, _, _ = self._found()
        request = AWSRequest(method=method, url=url, headers=dict(headers))
        _Signature(_frozen(credentials), region, payload).add_auth(request)
        return dict(request.headers.items())

    def upload(self, key: str, headers: Mapping[str, str], payload: str, expires_s: int) -> SignedRequest:
        return self._query_signed("PUT", key, headers, expires_s)

    def download(self, key: str, expires_s: int) -> SignedRequest:
        return self._query_signed("GET", key, {}, expires_s)

    def _query_signed(self, method: str, key: str, headers: Mapping[str, str], expires_s: int) -> SignedRequest:
        credentials, region, _, public = self._found()
        request = AWSRequest(method=method, url=f"{public}/{quote(key)}", headers=dict(headers))
        S3SigV4QueryAuth(_frozen(credentials), _SERVICE, region, expires=expires_s).add_auth(request)
        return SignedRequest(url=request.url, headers=dict(headers))

    def _found(self) -> tuple[Any, str, str, str]:
        """Credentials, the region, the bucket's address, and the one by which builds reach it."""
        if self._made is None:
            with self._making:  # making sessions is the one thing that boto3 does not share between threads
                if self._made is None:
                    self._made = self._find()
        return self._made

    def _find(self) -> tuple[Any, str, str, str]:
        config = self._config
        try:
            session = boto3.session.Session(
                aws_access_key_id=config.access_key or None,
                aws_secret_access_key=config.secret_key or None,
                profile_name=config.profile or None,
                region_name=config.region or None,
            )
            credentials = session.get_credentials()
            region = session.region_name or "us-east-1"
            address = self._address(session, region, config.endpoint)
            public = self._address(session, region, config.public_endpoint) if config.public_endpoint else address
        except BotoCoreError as error:
            raise _no_credentials(str(error)) from error
        if credentials is None:
            raise _no_credentials("neither in the settings, nor in the environment, a profile, or a role")
        return credentials, region, address, public

    def _address(self, session: Any, region: str, endpoint: str) -> str:
        """The bucket's URL: at AWS as botocore's rules for endpoints make it."""
        if endpoint:
            return self._at(endpoint)
        style = "path" if self._config.path_style else "virtual"
        settings = Config(signature_version=UNSIGNED, s3={"addressing_style": style})
        client = session.client(_SERVICE, region_name=region, config=settings)
        try:
            url: str = client.generate_presigned_url("get_object", Params={"Bucket": self._config.bucket, "Key": "k"})
        finally:
            client.close()
        return url.partition("?")[0].removesuffix("/k")

    def _at(self, endpoint: str) -> str:
        parts = urlsplit(endpoint)
        host = parts.hostname or ""
        if self._config.path_style or host == "localhost" or _is_address(host):
            return f"{parts.scheme}://{parts.netloc}/{self._config.bucket}"
        return f"{parts.scheme}://{self._config.bucket}.{parts.netloc}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _frozen(credentials: Any) -> Any:
    """Those that hold now: of a role they are renewed on the way."""
    try:
        return credentials.get_frozen_credentials()
    except BotoCoreError as error:
        raise _no_credentials(str(error)) from error


def _no_credentials(why: str) -> UnreachableError:
    fix = "set store.s3.access_key and secret_key, or give the daemon's account a profile or a role"
    return UnreachableError("there are no credentials for the store", why=why, fix=fix)
