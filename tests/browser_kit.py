"""A real browser without a library: headless Chromium, told what to do in DevTools protocol over a pipe."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-pipe",
)


class Browser:
    """One page. Messages go over descriptors 3 and 4 of Chromium, each ended by a NUL."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._rest, self._count = to, back, b"", 0
        self._session = ""
        self.faults: list[str] = []  # what the page complained of: scripts that failed, what CSP refused
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        asked = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            asked["sessionId"] = self._session
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        while (told := self._next()).get("id") != self._count:
            self._hear(told)
        assert "error" not in told, (method, told)
        return told["result"]

    def log_in(self, user: str, password: str) -> None:
        word = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.call("Network.setExtraHTTPHeaders", headers={"Authorization": f"Basic {word}"})

    def show(self, width: int, height: int = 900, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """And wait until it is loaded."""
        self.call("Page.navigate", url=url)
        while (told := self._next()).get("method") != "Page.loadEventFired":
            self._hear(told)

    def ask(self, expression: str) -> Any:
        """What a line of JavaScript gives in the page; a promise is waited for."""
        told = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )  # fmt: skip
        assert "exceptionDetails" not in told, (expression, told)
        return told["result"].get("value")

    def picture(self, path: Path, whole: bool = True) -> None:
        told = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(told["data"]))

    def _hear(self, told: Mapping[str, Any]) -> None:
        parameters = told.get("params", {})
        if told.get("method") == "Runtime.exceptionThrown":
            self.faults.append(json.dumps(parameters["exceptionDetails"])[:300])
        if told.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.faults.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._back, 2**16)
            assert more, "the browser has ended"
            self._rest += more
        whole, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(whole)
        return found


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    assert CHROMIUM
    theirs, ours = os.pipe()
    ours_back, theirs_back = os.pipe()
    # sh knows no descriptors of two digits.
    command = f'exec "$0" "$@" 3<&{theirs} 4>&{theirs_back}'
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "bash",
                "-c",
                command,
                CHROMIUM,
                *OPTIONS,
                f"--user-data-dir={folder / 'profile'}",
                "about:blank",
            ],
            pass_fds=(theirs, theirs_back),
            stdout=log,
            stderr=log,
        )
    os.close(theirs)
    os.close(theirs_back)
    try:
        yield Browser(ours, ours_back)
    finally:
        os.close(ours)
        os.close(ours_back)
        process.terminate()
        process.wait(30)
