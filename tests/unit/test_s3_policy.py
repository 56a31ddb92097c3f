"""The policy for a store's credentials allows what the stores in buckets ask of S3: all of it, and nothing else."""

import ast
import json
from pathlib import Path
from typing import Any, Final

from botocore.session import get_session

import plugins.stores.buckets

ROOT = Path(__file__).parents[2]
POLICY = json.loads((ROOT / "config" / "aws" / "s3-policy.json").read_text())
#: Where IAM's name for a call of S3 is another than the call's own; a copy reads its source besides.
NAMES: Final = {
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "HeadObject": "s3:GetObject",
    "CopyObject": "s3:PutObject",
    "DeleteObjects": "s3:DeleteObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "UploadPartCopy": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
}
BY_KMS: Final = {"kms:GenerateDataKey", "kms:Decrypt"}  #: S3 asks for them with our rights


def many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def called() -> set[str]:
    """Every operation of S3 that the plug-ins name, as AWS calls it."""
    folder = Path(plugins.stores.buckets.__file__).parent
    nodes = (node for path in folder.glob("*.py") for node in ast.walk(ast.parse(path.read_text())))
    calls = (node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    asked = (call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in {"ask", "stream"})
    return {str(ast.literal_eval(call.args[0])) for call in asked}


def test_the_calls_have_the_names_that_aws_gives_them() -> None:
    assert len(called()) >= 14
    assert called() <= set(get_session().get_service_model("s3").operation_names)


def test_the_policy_allows_the_calls_of_the_stores_and_no_others() -> None:
    allowed = {each for statement in POLICY["Statement"] for each in many(statement["Action"])}
    assert allowed - BY_KMS == {NAMES.get(name, f"s3:{name}") for name in called()}
    assert allowed >= BY_KMS


def test_every_action_is_tied_to_the_bucket_the_prefix_or_the_key() -> None:
    for statement in POLICY["Statement"]:
        assert statement["Effect"] == "Allow"
        assert not any("*" in each for each in many(statement["Action"]))
        assert all(each.startswith(("arn:aws:s3:::BUCKET", "arn:aws:kms:")) for each in many(statement["Resource"]))
