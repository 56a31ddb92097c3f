"""Tell the daemon every few seconds that the build lives, and hear from it whether it still should."""

import threading

from builder.api import Api, Refused
from builder.errors import GivenUp
from builder.life import Life
from builder.protocol import EXIT_FAILED, HEARTBEAT_S


class Heartbeat:
    """A thread of its own, so that a busy build is not taken for a dead one."""

    def __init__(self, api: Api, life: Life, every_s: float = HEARTBEAT_S) -> None:
        self._api, self._life, self._every_s = api, life, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No beat begins afterwards. Does not wait for one under way."""
        self._stop.set()

    def _serve(self) -> None:
        try:
            while not self._stop.wait(self._every_s):
                if self._api.post("/build/v1/heartbeat", {}).get("cancel"):
                    self._life.end(GivenUp("the deployment was cancelled"))
                    return
        except GivenUp as cause:
            if not self._stop.is_set():  # a beat that crosses the end of the build proves nothing
                self._life.end(cause)
        except Refused as error:
            self._life.end(GivenUp(f"the daemon refused a heartbeat: {error.message}", EXIT_FAILED))
        finally:
            self._api.close()
