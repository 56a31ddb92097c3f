"""What AWS answered, in words an operator can act on: retry, or mend what is named."""

import re
from typing import Any, Final

from botocore import exceptions as aws

from scalemesh.errors import RefusedError, ScaleMeshError, UnreachableError

POLICY: Final = "config/aws/ecs-policy.json"
_ACTION: Final = re.compile(r"perform: ([a-z0-9-]+:[A-Za-z]+)")
_BUSY: Final = re.compile(
    r"Throttl|TooManyRequests|RequestLimit|ServerException|ServiceUnavailable|InternalF|InternalE"
)
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_STRANGERS: Final = frozenset(
    {
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "IncompleteSignature",
        "MissingAuthenticationToken",
    }
)
#: What passes by itself, wherever it is said: in an error, in a failure of RunTask, or as why a task stopped.
_NO_ROOM: Final = re.compile(
    r"(^|\W)(RESOURCE:|AGENT$|LOCATION$|PROVISIONING)|(?i:capacity (is un|un)available|no capacity|capacity error"
    r"|empty capacity|no container instances|limit on the number of)"
)
#: A word of the message -> what to mend.
_FIXES: Final = (
    (r"subnet", "check executor.ecs.subnets: ids of that region, all of one VPC"),
    (r"security ?group", "check executor.ecs.security_groups: ids of the VPC of the subnets"),
    (r"cluster", "check executor.ecs.cluster and executor.ecs.region"),
    (r"role", "check executor.ecs.execution_role_arn and task_role_arn: roles that ecs-tasks.amazonaws.com may assume"),
    (r"capacity.?provider", "check executor.ecs.capacity_providers: the cluster must have them"),
    (r"task.?definition", "check executor.ecs.task_definition"),
    (r"platform", "check executor.ecs.platform_version"),
)


def is_no_room(text: str) -> bool:
    """Whether *text* of AWS says that there is no capacity now; later there may be."""
    return bool(_NO_ROOM.search(text))


def fix_for(text: str) -> str:
    """The setting to look at for a complaint of AWS."""
    found = (fix for word, fix in _FIXES if re.search(word, text, re.IGNORECASE))
    return next(found, "run `scalemesh check` for the whole picture")


def translated(error: Exception, operation: str) -> ScaleMeshError:
    """The error of botocore as one of ours: UnreachableError where trying again may help, else RefusedError."""
    if isinstance(error, aws.ClientError):
        service = operation.partition(":")[0]
        return _answered(error.response, f"{service}:{error.operation_name}")  # as IAM names it
    if isinstance(error, aws.NoRegionError):
        return RefusedError("no AWS region is set", fix="set executor.ecs.region")
    if isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError | aws.ProfileNotFound):
        return UnreachableError(  # a machine that just boots may get its role, or its files, in a moment
            "there are no AWS credentials", why=str(error), fix=f"give the daemon a role or keys with {POLICY}"
        )
    if isinstance(error, aws.ParamValidationError | ValueError):
        return RefusedError(f"the request {operation} cannot be made", why=str(error), fix=fix_for(str(error)))
    return UnreachableError(
        "AWS does not answer", why=f"{operation}: {error}", fix="check the network and the endpoint"
    )


def _answered(response: Any, operation: str) -> ScaleMeshError:
    code = str(response.get("Error", {}).get("Code", ""))
    message = str(response.get("Error", {}).get("Message", "")).strip()
    why = f"{operation}: {code}: {message}"
    if code.startswith("AccessDenied") or code == "UnauthorizedOperation":
        return _denied(message, operation, why)
    if code in _STRANGERS:
        return RefusedError("AWS does not accept the credentials", why=why, fix="check the daemon's keys or role")
    if code in _EXPIRED:
        return UnreachableError("the AWS credentials have expired", why=why, fix="renew them, or use a role")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= 500 or status == 429 or _BUSY.search(code):
        return UnreachableError("AWS is busy", why=why)
    if is_no_room(message):
        return UnreachableError("ECS has no room for the task now", why=why)
    return RefusedError("ECS refused the request", why=why, fix=fix_for(f"{code} {message}"))


def _denied(message: str, operation: str, why: str) -> RefusedError:
    found = _ACTION.search(message)
    action = found[1] if found else operation
    return RefusedError(
        f"AWS does not allow {action}", why=why, fix=f"allow {action} to the daemon's role, see {POLICY}"
    )


def known_by_token(error: RefusedError) -> str | None:
    """The task of the same client token, if that is why RunTask refused: the token was there with other words."""
    cause = error.__cause__
    if not isinstance(cause, aws.ClientError) or cause.response["Error"].get("Code") != "ConflictException":
        return None
    arns: list[str] = cause.response.get("resourceIds") or []
    return arns[0] if arns else None


def refused_to_run(failures: list[dict[str, Any]]) -> ScaleMeshError:
    """Why RunTask started nothing, from its ``failures``."""
    told = "; ".join(
        " ".join(filter(None, (item.get("reason"), item.get("detail"), item.get("arn")))) for item in failures
    )
    if any(is_no_room(str(item.get("reason", ""))) for item in failures):
        return UnreachableError("ECS has no room for the task now", why=told)
    return RefusedError("ECS started no task", why=told or "and does not say why", fix=fix_for(told))
