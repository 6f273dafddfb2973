"""The operations page as it stands on the network: the real gunicorn, asked as a browser would."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.stack_kit import PATIENCE

TOKEN = re.compile(r'name="token" value="([^"]+)"')
REFUSED, DONE = re.compile(r'class="told refused"[^>]*>(?!The numbers)(.*?)</p>'), re.compile(
    r'class="told done"[^>]*>(.*?)</p>'
)  # fmt: skip


@dataclass
class Visitor:
    """Somebody before the page."""

    url: str
    login: tuple[str, str] | None
    session: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.url + path, auth=self.login, timeout=PATIENCE, **options)

    def post(
        self, path: str, fields: dict[str, Any], headers: dict[str, str] | None = None
    ) -> requests.Response:
        return self.session.post(
            self.url + path, data=fields, headers=headers, auth=self.login, timeout=PATIENCE
        )

    def token(self) -> str:
        found = TOKEN.search(self.get("/lanes").text)
        assert found
        return found[1]

    def do(self, path: str, **fields: Any) -> str:
        """What an action is said to have led to, on the page after it."""
        answer = self.post(path, {"token": self.token(), **fields})
        assert answer.history and answer.history[0].status_code == 303, (answer.status_code, answer.text)
        assert answer.status_code == 200, answer.text
        told = DONE.search(answer.text) or REFUSED.search(answer.text)
        assert told, answer.text
        return told[1]

    def ask(self, path: str, **fields: Any) -> str:
        """The question that a grave action is answered with; nothing is done yet."""
        answer = self.post(path, {"token": self.token(), **fields})
        assert answer.status_code == 200 and 'id="question"' in answer.text, answer.text
        found = re.search(r'id="question">\s*<p>(.*?)</p>', answer.text, re.S)
        assert found
        return found[1]
