"""The two providers' APIs that the simulator offers here, as a peer sees them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import quote

Outcome = dict[str, str | None]
"""`state`: succeeded or failed; `url`: of the picture, None where there is none."""


class Api(Protocol):
    """`url` takes the POST of an order; the answer is a task, as is what a callback or a poll brings."""

    url: str
    headers: dict[str, str]

    def order(
        self, number: int, turn: int = 0, callback_url: str = "", reference: str = ""
    ) -> dict[str, Any]:
        """The body for a job. Accounts take turns; a further try of the same job goes to the next one."""

    def task_url(self, task: dict[str, Any]) -> str:
        """Where to ask after it."""

    def reference(self, task: dict[str, Any]) -> str:
        """What was sent along with the order."""

    def outcome(self, task: dict[str, Any]) -> Outcome | None:
        """None while it runs."""


class Frames:
    """A few accounts, each with its e-mail and up to 10 slots."""

    def __init__(self, simulator: str, token: str, emails: Sequence[str], slots: int) -> None:
        self._root = f"{simulator}/v1/runwayml"
        self.url = f"{self._root}/frames/create"
        self.headers = {"Authorization": f"Bearer {token}"}
        self._emails = emails
        self._slots = slots

    def order(
        self, number: int, turn: int = 0, callback_url: str = "", reference: str = ""
    ) -> dict[str, Any]:
        email = self._emails[(number + turn) % len(self._emails)]
        body = {"text_prompt": f"bench {number}", "email": email, "maxJobs": self._slots}
        return body | ({"replyUrl": callback_url, "replyRef": reference} if callback_url else {})

    def task_url(self, task: dict[str, Any]) -> str:
        return f"{self._root}/tasks/{quote(task['taskId'], safe=':@')}"

    def reference(self, task: dict[str, Any]) -> str:
        return str(task["replyRef"])

    def outcome(self, task: dict[str, Any]) -> Outcome | None:
        if task["status"] not in ("SUCCEEDED", "FAILED"):
            return None
        return _outcome(task["artifacts"])


class Generic:
    """One account, as many slots as one likes."""

    def __init__(self, simulator: str, token: str) -> None:
        self.url = f"{simulator}/v1/generic/jobs"
        self.headers = {"X-Api-Key": token}

    def order(
        self, number: int, turn: int = 0, callback_url: str = "", reference: str = ""
    ) -> dict[str, Any]:
        body = {"text": f"bench {number}"}
        return body | ({"notify": callback_url, "tag": reference} if callback_url else {})

    def task_url(self, task: dict[str, Any]) -> str:
        return f"{self.url}/{task['job']['id']}"

    def reference(self, task: dict[str, Any]) -> str:
        return str(task["job"]["tag"])

    def outcome(self, task: dict[str, Any]) -> Outcome | None:
        if task["job"]["state"] not in ("done", "broken"):
            return None
        return _outcome(task["job"]["images"])


def _outcome(pictures: Sequence[dict[str, Any]]) -> Outcome:
    """A success without a picture is none."""
    url = pictures[0]["url"] if pictures else None
    return {"state": "succeeded" if url else "failed", "url": url}
