"""AWS that says what a test wants: what no stand-in does (Spot, no capacity, throttling), and requests to look at."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.validate import validate_parameters

Answer = Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Answers:
    """Answers every call of a client of boto3, in its last step before the network; each is checked by AWS's model."""

    def __init__(self, client: Any) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []  #: operations with their words, in order
        self._answers: dict[str, list[Answer]] = {}
        self._lock = threading.Lock()
        self._words = threading.local()
        name = client.meta.service_model.service_name
        client.meta.events.register(f"provide-client-params.{name}", self._remember)
        client.meta.events.register(f"before-call.{name}", self._answer)

    def say(self, operation: str, *answers: Answer) -> None:
        """The answers to *operation* from now on, in order; the last is given again and again."""
        with self._lock:
            self._answers[operation] = list(answers)

    def words(self, operation: str) -> list[dict[str, Any]]:
        """What *operation* was asked with, each time."""
        return [words for asked, words in self.asked if asked == operation]

    def _remember(self, params: dict[str, Any], **_: object) -> None:
        self._words.now = params

    def _answer(self, model: Any, **_: object) -> tuple[Any, dict[str, Any]]:
        with self._lock:
            self.asked.append((model.name, self._words.now))
            left = self._answers[model.name]
            answer = left.pop(0) if len(left) > 1 else left[0]
        told = dict(answer(self._words.now) if callable(answer) else answer)
        status = told.pop("status", 200)
        if status == 200:
            validate_parameters(told, model.output_shape)
        return AWSResponse("", status, {}, None), {"ResponseMetadata": {"HTTPStatusCode": status}, **told}


def error(code: str, message: str = "", status: int = 400, **more: Any) -> dict[str, Any]:
    """An answer that refuses."""
    return {"status": status, "Error": {"Code": code, "Message": message}, **more}
