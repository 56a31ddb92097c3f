"""What Kubernetes' refusals and failures mean for us, in words that an operator can act on."""

import json
from typing import Any, Final

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from scalemesh.errors import ConflictError, NotFoundError, RefusedError, ScaleMeshError, UnreachableError

RIGHTS: Final = "kubectl apply -f config/kubernetes/rbac.yaml gives the daemon's account what it needs"
ANYBODY: Final = "system:anonymous"  #: who has no credentials is called so
MOST: Final = 600
TRANSPORT: Final = (HTTPError, OSError)


def meaning(error: Exception, verb: str, resource: str, namespace: str) -> ScaleMeshError:
    """The error of ours for what came of *verb* on *resource*.

    NotFoundError: no such object (or namespace). ConflictError: the name is taken. UnreachableError: may go well later.
    RefusedError: will not.
    """
    if not isinstance(error, ApiException) or not error.status:
        return UnreachableError("the Kubernetes API does not answer", why=_short(_root(error)))
    return _answered(int(error.status), _said(error), f"{verb} {resource} in namespace {namespace}")


def is_unknown(error: Exception) -> bool:
    """Whether the cluster does not know who asks: it says so, or treats us as anybody, who has no rights."""
    if not isinstance(error, ApiException):
        return False
    return error.status == 401 or (error.status == 403 and ANYBODY in str(_said(error).get("message")))


def no_credentials(error: Exception) -> UnreachableError:
    """For one that ``is_unknown`` where we have none to show. A plug-in of the kubeconfig may give some later."""
    said = _said(error) if isinstance(error, ApiException) else {}
    return UnreachableError(
        "there are no credentials for the cluster",
        why=_short(f"the kubeconfig gives none, and the cluster says: {said.get('message') or said}"),
        fix="where its user has an exec plug-in, run that by hand as the daemon's user; the daemon's log has its words",
    )


def _answered(status: int, said: dict[str, Any], wish: str) -> ScaleMeshError:
    why = _short(str(said.get("message") or status))
    if status == 404:
        return NotFoundError(f"Kubernetes does not know it: {wish}", why=why)
    if status == 409 and said.get("reason") == "AlreadyExists":
        return ConflictError(f"Kubernetes has that name already: {wish}", why=why)
    if status == 403 and "exceeded quota" in why:
        fix = "raise it, or run fewer builds at once"
        return UnreachableError("the quota of the namespace is used up", why=why, fix=fix)
    refusals = {
        400: (f"Kubernetes does not accept it: {wish}", "see [executor.kubernetes]"),
        401: ("Kubernetes does not know who we are", "the kubeconfig's token or certificate is wrong, or too old"),
        403: (f"Kubernetes does not let us {wish}", RIGHTS),
        422: (f"Kubernetes does not accept it: {wish}", "see [executor.kubernetes]"),
    }
    if status in refusals:
        what, fix = refusals[status]
        return RefusedError(what, why=why, fix=fix)
    return UnreachableError(f"the Kubernetes API cannot now: {wish}", why=why)


def _said(error: ApiException) -> dict[str, Any]:
    body: Any = error.body or ""
    try:
        said = json.loads(body.decode(errors="replace") if isinstance(body, bytes) else str(body))
    except ValueError:
        return {"message": f"{error.status} {error.reason}: {body!r}"}
    return said if isinstance(said, dict) else {}


def _root(error: BaseException) -> str:
    """The last words of urllib3's long ones."""
    reason = getattr(error, "reason", None)
    return f"{type(error).__name__}: {reason or error}"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= MOST else flat[: MOST - 1] + "…"
