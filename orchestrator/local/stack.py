"""The whole product on one machine, started in order: server, simulator, worker, ticker, doors, dashboards.

The processes are told where everything is by their environment alone; no secret stands in a command line.
"""

from __future__ import annotations

import secrets
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.api_keys import VARIABLE as API_KEYS
from orchestrator.local.files import private_folder, secret_kept_in
from orchestrator.local.guard import Guard
from orchestrator.local.processes import Command, Ended, Processes, free_port, http_answers
from orchestrator.local.valkey import EmbeddedServer, start_own

READY_SECONDS = 60.0
FLOWER_USER = "orchestrator"
# Of the caller's environment: ours or none; and what only the API is to know.
METRICS_PORT = "ORCHESTRATOR_METRICS_PORT"
UNSET = ("ORCHESTRATOR_PUBLIC_URL", "FLOWER_BASIC_AUTH", API_KEYS, METRICS_PORT)
PYTHON = (sys.executable, "-m")
CELERY = (*PYTHON, "orchestrator.celery", "-A", "workers")
COLLECT = "orchestrator.finish"  # the queue whose tasks wait for the place that pictures are kept in
COLLECTOR_THREADS = 16


@dataclass(frozen=True)
class Commands:
    """What is run. `{port}` and `{host}` (a Celery node name) are filled in."""

    simulator: Sequence[str] = (*PYTHON, "orchestrator.simulator", "--port", "{port}")
    worker: Sequence[str] = (*CELERY, "worker", "--loglevel=INFO", "-E", "--hostname", "{host}")
    collector: Sequence[str] = (
        *(*CELERY, "worker", "--loglevel=INFO", "-E", "--hostname", "{host}", "--queues", COLLECT),
        *("--concurrency", str(COLLECTOR_THREADS), "--prefetch-multiplier", "1"),
    )
    ticker: Sequence[str] = (*CELERY, "beat", "--loglevel=INFO", "--pidfile=")
    receiver: Sequence[str] = (
        *(*PYTHON, "gunicorn", "--config", "python:webhooks.gunicorn_conf", "--bind", "127.0.0.1:{port}"),
    )
    api: Sequence[str] = (
        *(*PYTHON, "gunicorn", "--config", "python:webhooks.api.gunicorn_conf", "--bind", "127.0.0.1:{port}"),
    )
    operations: Sequence[str] = (
        *(*PYTHON, "gunicorn", "--config", "python:webhooks.operations.gunicorn_conf"),
        *("--bind", "127.0.0.1:{port}"),
    )
    flower: Sequence[str] = (
        *(*PYTHON, "celery", "-A", "workers", "flower"),
        *("--address=127.0.0.1", "--port={port}"),
    )


@dataclass(frozen=True)
class StackOptions:
    """What to start, and with what. Our own variables win over those of `environ`.

    `cwd`: where the packages are found. `redis_url`: a server elsewhere instead of the embedded one.
    `public_url`: how providers reach the receiver, where that is not its local address. `callbacks` off: no
    public URL is set, everything is polled. `collectors`: workers that only finish jobs, while the others do
    all else; 0: those do that too. `secret_keys`: instead of the key kept in the folder.
    `metrics_port`: of the ticker's metrics, and those after it of the others'; 0: free ones; None: none.
    Other ports that are not given are free ones. The HTTP API is started where `environ` names keys of it.
    """

    accounts: Path
    artifacts: str
    cwd: Path
    environ: Mapping[str, str] = field(repr=False)
    redis_url: str | None = field(default=None, repr=False)
    public_url: str | None = None
    secret_keys: str | None = field(default=None, repr=False)
    callbacks: bool = True
    simulator: bool = True
    flower: bool = True
    workers: int = 1
    collectors: int = 0
    simulator_port: int | None = None
    receiver_port: int | None = None
    api_port: int | None = None
    flower_port: int | None = None
    metrics_port: int | None = None
    operations_port: int | None = None
    simulator_arguments: Sequence[str] = ()
    worker_arguments: Sequence[str] = ()
    commands: Commands = Commands()


class Stack:
    """The local product. The ports are chosen at once, so that its URLs are known before it is started.

    `start` it, or use it as a context manager. Not thread-safe.
    """

    def __init__(self, folder: Path, options: StackOptions) -> None:
        self.folder = private_folder(folder)
        self.options = options
        self.simulator_port = options.simulator_port or free_port()
        self.receiver_port = options.receiver_port or free_port()
        self.api_port = options.api_port or free_port()
        self.flower_port = options.flower_port or free_port()
        self.operations_port = options.operations_port or free_port()
        self.metrics_ports = self._metrics_ports()
        self.flower_login = (FLOWER_USER, secrets.token_urlsafe(16))
        self._guard = Guard()
        self.processes = Processes(self._guard)
        self.server: EmbeddedServer | None = None
        self._redis_url = options.redis_url or ""

    @property
    def redis_url(self) -> str:
        """Where the server is, password included; empty until `start` where it is embedded."""
        return self._redis_url

    @property
    def receiver_url(self) -> str:
        """Where the receiver is on this machine."""
        return f"http://127.0.0.1:{self.receiver_port}"

    @property
    def simulator_url(self) -> str | None:
        """Where the providers' stand-in is, if it is asked for."""
        return f"http://127.0.0.1:{self.simulator_port}" if self.options.simulator else None

    @property
    def api_url(self) -> str | None:
        """Where the HTTP API is, if there are keys of it."""
        return f"http://127.0.0.1:{self.api_port}" if self.options.environ.get(API_KEYS) else None

    @property
    def metrics_urls(self) -> dict[str, str]:
        """Process → where it tells its metrics; empty where there are none."""
        return {name: f"http://127.0.0.1:{port}/metrics" for name, port in self.metrics_ports.items()}

    @property
    def flower_url(self) -> str | None:
        """Where Flower is, if it is asked for; `flower_login` opens it."""
        return f"http://127.0.0.1:{self.flower_port}" if self.options.flower else None

    @property
    def operations_url(self) -> str | None:
        """Where the operations page is, beside Flower; `flower_login` opens it."""
        return f"http://127.0.0.1:{self.operations_port}" if self.options.flower else None

    @property
    def environment(self) -> dict[str, str]:
        """What a client of this stack needs in its environment. Secrets included."""
        keys = self.options.secret_keys or secret_kept_in(self.folder / "secret_key")
        own = {
            "ORCHESTRATOR_REDIS_URL": self._redis_url,
            "ORCHESTRATOR_SECRET_KEYS": keys,
            "ORCHESTRATOR_ACCOUNTS": str(self.options.accounts),
            "ORCHESTRATOR_ARTIFACTS": self.options.artifacts,
        }
        if self.options.callbacks:
            own["ORCHESTRATOR_PUBLIC_URL"] = self.options.public_url or self.receiver_url
        return own

    def log(self, name: str) -> Path:
        """Where a process writes its log; `valkey` is the server."""
        return self.folder / "logs" / f"{name}.log" if name != "valkey" else self.folder / "valkey.log"

    def start(self) -> None:
        """Starts everything and waits until all of it is ready; ends everything where one part is not.

        The processes start side by side, since most of their time goes into imports. Not safe to call twice.
        Raises: `LocalError` and its kinds, such as `FolderInUse` where another command has the server.
        """
        try:
            if not self._redis_url:
                self.server = start_own(self.folder, guard=self._guard)
                self._redis_url = self.server.url
            commands = self._commands()
            for command in commands:
                self.processes.launch(command)
            for command in commands:
                self.processes.wait(command.name)
        except BaseException:
            self.stop()
            raise

    def poll(self) -> list[Ended]:
        """Gives the processes that ended by themselves and were not restarted. Safe to call twice."""
        return self.processes.poll() + (self.server.poll() if self.server else [])

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal to a process by its name; `valkey` is the server. Safe to call twice."""
        if self.server and name == "valkey":
            self.server.kill(number)
        else:
            self.processes.kill(name, number)

    def restart(self, name: str) -> None:
        """Ends a process if it runs, and starts it as before. Raises: `LocalError` and its kinds."""
        if self.server and name == "valkey":
            self.server.restart()
        else:
            self.processes.restart(name)

    def stop(self) -> None:
        """Ends everything that was started here, the server last. Safe to call twice."""
        try:
            self.processes.stop()
            if self.server:
                self.server.stop()
        finally:
            self._guard.close()  # an impatient second Ctrl-C ends here: it ends the rest within 5 seconds

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Stack(folder={str(self.folder)!r}, receiver={self.receiver_url!r}, options={self.options!r})"

    def _commands(self) -> list[Command]:
        options, run = self.options, self.options.commands
        found: list[Command] = []
        if options.simulator:
            argv = (*_filled(run.simulator, port=self.simulator_port), *options.simulator_arguments)
            found.append(self._command("simulator", argv, _serves(self.simulator_port, "/__stats__")))
        for name in _numbered("worker", options.workers):
            argv = (*_filled(run.worker, host=f"{name}@%h"), *options.worker_arguments)
            if options.collectors:
                argv = (*argv, "--exclude-queues", COLLECT)
            found.append(self._command(name, argv, self._says(name, "ready.")))
        for name in _numbered("collector", options.collectors):
            argv = _filled(run.collector, host=f"{name}@%h")
            found.append(self._command(name, argv, self._says(name, "ready.")))
        found.append(self._command("ticker", run.ticker, self._says("ticker", "ticker.started")))
        argv = _filled(run.receiver, port=self.receiver_port)
        found.append(self._command("receiver", argv, _serves(self.receiver_port, "/healthz")))
        if self.api_url:
            argv = _filled(run.api, port=self.api_port)
            found.append(self._command("api", argv, _serves(self.api_port, "/healthz")))
        if options.flower:
            argv = _filled(run.flower, port=self.flower_port)
            found.append(self._command("flower", argv, _serves(self.flower_port, "/healthcheck")))
            argv = _filled(run.operations, port=self.operations_port)
            found.append(self._command("operations", argv, _serves(self.operations_port, "/healthz")))
        return found

    def _command(self, name: str, argv: Sequence[str], ready: Callable[[], bool]) -> Command:
        environ = {key: text for key, text in self.options.environ.items() if key not in UNSET}
        environ |= self.environment | {"PYTHONUNBUFFERED": "1"}
        if name in ("flower", "operations"):
            environ["FLOWER_BASIC_AUTH"] = ":".join(self.flower_login)
        if name == "flower":
            environ.setdefault("FLOWER_DB", str(self.folder / "flower" / "tasks"))
        if name in self.metrics_ports:
            environ[METRICS_PORT] = str(self.metrics_ports[name])
        if name == "api":
            environ[API_KEYS] = self.options.environ[API_KEYS]
        return Command(name, argv, environ, self.options.cwd, self.log(name), ready, READY_SECONDS)

    def _metrics_ports(self) -> dict[str, int]:
        options = self.options
        if options.metrics_port is None:
            return {}
        names = ["ticker", *_numbered("worker", options.workers), *_numbered("collector", options.collectors)]
        names += ["receiver", "api"] if self.api_url else ["receiver"]
        first = options.metrics_port
        return {name: first + place if first else free_port() for place, name in enumerate(names)}

    def _says(self, name: str, word: str) -> Callable[[], bool]:
        return lambda: word in self.log(name).read_text(encoding="utf-8", errors="replace")


def _numbered(name: str, count: int) -> list[str]:
    return [name, *(f"{name}-{number}" for number in range(2, count + 1))][:count]


def _serves(port: int, path: str) -> Callable[[], bool]:
    return lambda: http_answers(port, path)


def _filled(argv: Sequence[str], **places: object) -> tuple[str, ...]:
    return tuple(word.format(**places) for word in argv)
