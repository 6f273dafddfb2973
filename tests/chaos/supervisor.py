"""Breaks the processes as planned, and starts again what died, as `orchestrator up` does."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.local.stack import Stack
from tests.chaos.plan import Strike

DOWN_SECONDS = 0.5  # before what died is started again


@dataclass
class Supervisor:
    """One thread's. `begun`: the moment (monotonic) that the strikes count from."""

    stack: Stack
    strikes: Sequence[Strike]
    begun: float
    dice: random.Random
    done: Counter[str] = field(default_factory=Counter)
    lost_server_at: list[float] = field(default_factory=list)
    """Unix moments at which Redis was killed: what it had taken and not yet written may be gone."""
    diary: list[str] = field(default_factory=list)
    _next: int = 0
    _stopped: dict[str, float] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether all is done, and everything runs."""
        return self._next >= len(self.strikes) and not self._stopped and not self.stack.poll()

    def step(self) -> None:
        """See to what is due. Raises: LocalError where something cannot be started again."""
        now = time.monotonic() - self.begun
        for name, until in list(self._stopped.items()):
            if now >= until:
                self._let_go(name)
        while self._next < len(self.strikes) and self.strikes[self._next].at <= now:
            self._strike(self.strikes[self._next], now)
            self._next += 1
        ended = [each.name for each in self.stack.poll()]
        if not ended:
            return
        time.sleep(DOWN_SECONDS)
        for name in sorted(ended, key=lambda name: name != "valkey"):  # nothing else starts without it
            self._keep_log(name)
            self.stack.restart(name)
            self._note(f"{name} runs again")

    def _strike(self, strike: Strike, now: float) -> None:
        if strike.whom in self._stopped:
            self._let_go(strike.whom)
        if strike.what == "kill":
            if strike.whom == "valkey":
                self.lost_server_at.append(time.time())
            self.stack.kill(strike.whom)
        elif strike.what == "restart":
            self._keep_log(strike.whom)
            self.stack.restart(strike.whom)
        elif strike.what == "stop":
            self.stack.kill(strike.whom, signal.SIGSTOP)
            self._stopped[strike.whom] = now + strike.seconds
        elif not self._kill_child(strike.whom):
            return
        self.done[f"{strike.what} {strike.whom.partition('-')[0]}"] += 1
        self._note(f"{strike.what} {strike.whom}")

    def _kill_child(self, name: str) -> bool:
        children = _children(self.stack.processes.pid(name))
        if not children:
            return False
        try:
            os.kill(self.dice.choice(children), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def _let_go(self, name: str) -> None:
        self._stopped.pop(name)
        self.stack.kill(name, signal.SIGCONT)
        self._note(f"continue {name}")

    def _keep_log(self, name: str) -> None:
        """The stack keeps two logs of a process; here all of them may matter."""
        log = self.stack.log(name)
        if log.exists():
            shutil.copy(log, log.with_name(f"{name}.{time.monotonic() - self.begun:06.1f}s.log"))

    def _note(self, what: str) -> None:
        self.diary.append(f"{time.monotonic() - self.begun:7.2f} s ({time.time():.2f})  {what}")


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [line.split() for line in listed.stdout.splitlines()]
    return sorted(int(child) for child, parent in pairs if int(parent) == pid)
