"""What a store of buckets answered, or why it did not, in words an operator can act on."""

import re
from datetime import UTC, datetime
from typing import Final

from urllib3 import exceptions as http

from plugins.stores.buckets.answers import AnsweredNo
from plugins.stores.buckets.config import BucketConfig
from scalemesh.errors import ScaleMeshError, UnreachableError

POLICY: Final = "config/aws/s3-policy.json"
_STRANGERS: Final = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSignature", "AuthorizationHeaderMalformed", "InvalidToken"}
)
_EXPIRED: Final = frozenset({"ExpiredToken", "TokenRefreshRequired", "RequestExpired"})
_ELSEWHERE: Final = frozenset({301, 307, 400})
_NO_ROOM: Final = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "EntityTooLarge"})
_NO_TLS: Final = "WRONG_VERSION_NUMBER"  #: how OpenSSL tells that the answer was no TLS at all
_EXPECTING: Final = re.compile(r"expecting '([a-z0-9-]+)'")


def answered(error: AnsweredNo, config: BucketConfig, kind: str) -> ScaleMeshError:
    """Why the store did not do it: always UnreachableError, since each of these can be mended while builds wait."""
    found = _of_place(error, config, kind) or _of_rights(error, config, kind) or _of_health(error, config)
    usual = f"the store at {place(config)} refused {error.operation}", "run `scalemesh check` for the whole picture"
    what, fix = found or usual
    return UnreachableError(what, why=str(error), fix=fix)


def _of_place(error: AnsweredNo, config: BucketConfig, kind: str) -> tuple[str, str] | None:
    if region := _region(error):
        return f"the bucket {config.bucket} lies in the region {region}", f'set store.{kind}.region = "{region}"'
    if error.code == "NoSuchBucket" or (error.status == 404 and error.operation in {"HeadBucket", "ListObjectsV2"}):
        fix = f"make it, correct store.{kind}.bucket, or set store.{kind}.create_bucket = true"
        return f"there is no bucket {config.bucket} at {place(config)}", fix
    return None


def _of_rights(error: AnsweredNo, config: BucketConfig, kind: str) -> tuple[str, str] | None:
    if error.code == "RequestTimeTooSkewed":
        return f"the clocks of this machine and of the store are {_skew(error.at)} apart", "set the clock"
    if error.code in _STRANGERS:
        fix = f"check store.{kind}.access_key and secret_key"
        return f"the store at {place(config)} does not accept the credentials", fix
    if error.code in _EXPIRED:
        return "the credentials for the store have expired", "renew them, or use a role"
    if error.status == 403:
        fix = f"allow what {POLICY} lists; if the bucket is somebody else's, name another"
        return f"the credentials do not allow {error.operation} on the bucket {config.bucket}", fix
    return None


def _of_health(error: AnsweredNo, config: BucketConfig) -> tuple[str, str] | None:
    if error.status == 507 or error.code in _NO_ROOM:
        return f"the store at {place(config)} has no room", "free space there, or raise its quota"
    if error.status == 429 or error.status >= 500:
        fix = "wait; if it stays so, look at the store's own health"
        return f"the store at {place(config)} is busy or failing", fix
    return None


def may_pass(cause: BaseException | None) -> bool:
    """Whether what went wrong may be over soon, although nobody changes a setting: the store is away, busy or full."""
    if isinstance(cause, AnsweredNo):
        return cause.status == 429 or cause.status >= 500 or cause.code in _NO_ROOM
    reason = cause.reason if isinstance(cause, http.MaxRetryError) else cause
    return isinstance(cause, http.HTTPError) and not isinstance(reason, http.SSLError)


def unanswered(error: Exception, config: BucketConfig, kind: str) -> ScaleMeshError:
    """Why there was no answer."""
    reason = error.reason if isinstance(error, http.MaxRetryError) and error.reason else error
    where = place(config)
    if isinstance(reason, http.SSLError) and _NO_TLS in str(reason):
        fix = f"write http:// in store.{kind}.endpoint, or name the port on which it does"
        return UnreachableError(f"the store at {where} does not speak TLS", why=str(reason), fix=fix)
    if isinstance(reason, http.SSLError):
        fix = f"set store.{kind}.ca to the PEM file of the authority that signed it, or correct the endpoint"
        return UnreachableError(
            f"the certificate of the store at {where} is not to be trusted", why=str(reason), fix=fix
        )
    if isinstance(reason, http.TimeoutError) and not isinstance(reason, http.NewConnectionError):
        return UnreachableError(f"the store at {where} does not answer in time", why=str(reason), fix=_fix(kind))
    return UnreachableError(f"the store at {where} cannot be reached", why=str(reason), fix=_fix(kind))


def _skew(server: datetime | None) -> str:
    """How far the server's clock and ours are apart."""
    if server is None:
        return "more than 15 minutes"
    return f"{abs((datetime.now(UTC) - server).total_seconds()):.0f} s"


def _fix(kind: str) -> str:
    return f"check store.{kind}.endpoint, the network and that the store runs"


def place(config: BucketConfig) -> str:
    return config.endpoint or f"AWS ({config.region or 'the usual region'})"


def _region(error: AnsweredNo) -> str:
    """The bucket's, if the request went to another."""
    if found := _EXPECTING.search(error.message):
        return found[1]
    return error.region if error.status in _ELSEWHERE else ""
