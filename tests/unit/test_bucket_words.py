"""What an operator is told of what a store in a bucket answered; and what its settings may be."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import urllib3

from plugins.stores.buckets import answers, words
from plugins.stores.buckets.answers import AnsweredNo, StrangeAnswer
from plugins.stores.buckets.keys import Keys, deployment_of, digest_of
from plugins.stores.minio import MinioConfig
from plugins.stores.s3 import S3Config
from scalemesh.decode import decode
from scalemesh.errors import InvalidError
from scalemesh.values import DeploymentId, Digest

LIST = b"<ListBucketResult>%b</ListBucketResult>"
CONFIG = S3Config(bucket="artifacts", endpoint="https://s3.example.com")


def no(status: int, code: str, message: str = "", headers: Mapping[str, str] | None = None) -> AnsweredNo:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>" if code else ""
    return AnsweredNo("GetObject", status, headers or {}, body.encode())


@pytest.mark.parametrize(
    ("answer", "what", "fix"),
    [
        (no(403, "InvalidAccessKeyId"), "does not accept the credentials", "store.s3.access_key"),
        (no(403, "SignatureDoesNotMatch"), "does not accept the credentials", "secret_key"),
        (no(400, "ExpiredToken"), "have expired", "renew"),
        (no(403, "AccessDenied"), "do not allow GetObject on the bucket artifacts", "config/aws/s3-policy.json"),
        (no(403, ""), "do not allow GetObject", "s3-policy.json"),
        (no(404, "NoSuchBucket"), "there is no bucket artifacts", "create_bucket = true"),
        (
            no(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"}),
            "in the region eu-west-1",
            "eu-west-1",
        ),
        (
            no(400, "AuthorizationHeaderMalformed", "the region 'a' is wrong; expecting 'b-1'"),
            "in the region b-1",
            "b-1",
        ),
        (no(503, "SlowDown"), "busy or failing", "wait"),
        (no(500, ""), "busy or failing", "wait"),
        (no(507, "InsufficientStorage"), "no room", "free space"),
        (no(507, "XMinioStorageFull"), "no room", "free space"),
        (no(418, "Teapot"), "refused GetObject", "scalemesh check"),
    ],
)
def test_each_answer_says_what_and_how_to_mend_it(answer: AnsweredNo, what: str, fix: str) -> None:
    told = words.answered(answer, CONFIG, "s3")
    assert what in told.what
    assert fix in told.fix
    assert told.code == "unreachable"
    assert str(answer.status) in told.why


def test_clocks_that_are_apart_are_told_in_seconds() -> None:
    ahead = format_datetime(datetime.now(UTC) + timedelta(seconds=1200), usegmt=True)
    told = words.answered(no(403, "RequestTimeTooSkewed", headers={"date": ahead}), CONFIG, "s3")
    apart = int(told.what.split()[-3])
    assert 1190 <= apart <= 1201
    assert "more than 15 minutes" in words.answered(no(403, "RequestTimeTooSkewed"), CONFIG, "s3").what


def test_a_certificate_a_time_out_and_silence_are_told_apart() -> None:
    pool = urllib3.HTTPConnectionPool("s3.example.com")
    tls = urllib3.exceptions.MaxRetryError(pool, "/", urllib3.exceptions.SSLError("self-signed"))
    assert "not to be trusted" in words.unanswered(tls, CONFIG, "s3").what
    plain = urllib3.exceptions.SSLError("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    told = words.unanswered(urllib3.exceptions.MaxRetryError(pool, "/", plain), CONFIG, "s3")
    assert "does not speak TLS" in told.what
    assert "http:// in store.s3.endpoint" in told.fix
    late = urllib3.exceptions.MaxRetryError(pool, "/", urllib3.exceptions.ReadTimeoutError(pool, "/", "late"))
    assert "in time" in words.unanswered(late, CONFIG, "s3").what
    assert "cannot be reached" in words.unanswered(urllib3.exceptions.ProtocolError("cut"), CONFIG, "s3").what


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"hello", b"<html></html>", LIST % b"<Contents><Key>k</Key></Contents>"]
)
def test_what_is_no_list_of_objects_is_a_strange_answer(body: bytes) -> None:
    with pytest.raises(StrangeAnswer):
        answers.page_of(body)


def test_an_error_in_what_began_as_a_success_is_seen() -> None:
    assert answers.is_error(b"<Error><Code>InternalError</Code></Error>")
    assert not answers.is_error(b'<CopyObjectResult xmlns="x"><ETag>e</ETag></CopyObjectResult>')


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"bucket": "no"}, "bucket"),
        ({"bucket": "No_Such_Name"}, "bucket"),
        ({"bucket": "a..b"}, "bucket"),
        ({"bucket": "abc", "prefix": "/a"}, "prefix"),
        ({"bucket": "abc", "prefix": "a/../b"}, "prefix"),
        ({"bucket": "abc", "prefix": "a" * 201}, "prefix"),
        ({"bucket": "abc", "endpoint": "s3.example.com"}, "endpoint"),
        ({"bucket": "abc", "endpoint": "https://s3.example.com/path"}, "endpoint"),
        ({"bucket": "abc", "endpoint": "https://me:secret@s3.example.com"}, "endpoint"),
        ({"bucket": "abc", "region": "eu west"}, "region"),
        ({"bucket": "abc", "access_key": "a"}, "secret_key"),
        ({"bucket": "abc", "sse": "rot13"}, "sse"),
        ({"bucket": "abc", "kms_key_id": "k"}, "kms_key_id"),
        ({"bucket": "abc", "tries": 0}, "tries"),
        ({"bucket": "abc", "threads": 1000}, "threads"),
        ({"bucket": "abc", "read_timeout_s": 0}, "read_timeout_s"),
        ({}, "bucket: missing"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidError, match=told):
        decode(S3Config, settings)


def test_a_minio_server_must_be_named() -> None:
    with pytest.raises(InvalidError, match="endpoint"):
        decode(MinioConfig, {"bucket": "abc"})
    with pytest.raises(InvalidError, match="endpoint"):
        decode(MinioConfig, {"bucket": "abc", "endpoint": ""})
    assert decode(MinioConfig, {"bucket": "abc", "endpoint": "http://127.0.0.1:9000"}).path_style


def test_a_secret_does_not_show() -> None:
    config = decode(S3Config, {"bucket": "abc", "access_key": "a", "secret_key": "${KEY}"}, environ={"KEY": "hidden"})
    assert config.secret_key == "hidden"
    assert "hidden" not in repr(config)


def test_keys_lead_there_and_back() -> None:
    keys = Keys("builds/eu")
    sha256 = Digest("ab" * 32)
    assert keys.blob(sha256) == f"builds/eu/blobs/ab/{sha256}"
    assert keys.room(DeploymentId("dpl_a1"), 2) == "builds/eu/staging/dpl_a1/2/"
    assert Keys("").marker == "scalemesh.json"
    assert digest_of(keys.blob(sha256)) == sha256
    assert digest_of("builds/eu/blobs/ab/other") is None
    assert deployment_of("dpl_a1") == "dpl_a1"
    assert deployment_of("proof-1") is None
