"""Flower as this product runs it. Its command makes this instead of Flower's own application."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flower.command
from flower.api.tasks import TaskApply, TaskResult
from flower.app import Flower, rewrite_handler
from flower.inspector import Inspector
from flower.options import options as defaults
from flower.views.monitor import Metrics
from flower.views.tasks import TASK_COLUMNS
from tornado import web
from tornado.ioloop import IOLoop

from orchestrator import rows
from orchestrator.broker import GENERATE
from orchestrator.environment import environment
from orchestrator.errors import ConfigurationError
from orchestrator.local.errors import LocalError
from orchestrator.local.files import private_folder
from orchestrator.logins import VARIABLE, logins
from workers.dashboard.redaction import Redaction
from workers.dashboard.refresh import Refresh
from workers.dashboard.secrets import secrets_of
from workers.dashboard.table import Table

if TYPE_CHECKING:
    from orchestrator.build import Built

COLUMNS = "state,kwargs,args,result,uuid,received,runtime,worker,name"
HEADINGS = {"kwargs": "Job, or kwargs", "args": "Asked for, or args", "result": "Outcome"}
MOST_TASKS = 10_000
SAVE_MILLISECONDS = 30_000


def install(built: Built) -> None:
    """Let `celery -A workers flower` be this. What is given by FLOWER_…, a file or an option wins over it."""
    defaults.tasks_columns = COLUMNS
    defaults.max_tasks = MOST_TASKS
    defaults.persistent = True
    defaults.state_save_interval = SAVE_MILLISECONDS
    defaults.db = str(built.settings.folder / "flower" / "tasks")
    TASK_COLUMNS.update(HEADINGS)
    flower.command.Flower = lambda **told: Dashboard(built, **told)


class Dashboard(Flower):  # type: ignore[misc]
    """Raises: SystemExit, in a sentence, where it would be open, or its file would be."""

    def __init__(self, built: Built, options: Any, capp: Any, **settings: Any) -> None:
        options.basic_auth = logins_of(options)
        os.umask(0o077)
        if options.persistent:
            options.db = kept_in(Path(options.db))
        options.format_task = options.format_task or plainly
        redaction = Redaction(secrets_of(built.settings, options.basic_auth))
        loop = IOLoop.current()
        table = Table(
            capp,
            db=options.db,
            persistent=options.persistent,
            state_save_interval=options.state_save_interval,
            enable_events=options.enable_events,
            io_loop=loop,
            max_workers_in_memory=options.max_workers,
            max_tasks_in_memory=options.max_tasks,
            redaction=redaction,
        )
        super().__init__(options=options, capp=capp, events=table, io_loop=loop, **settings)
        self.inspector = _Inspector(loop, capp, options.inspect_timeout / 1000, redaction=redaction)
        self._refresh = Refresh(
            built.flow.store, list(built.flow.exchange.providers), table, redaction, loop, options.max_tasks
        )
        self._replace(options.url_prefix, [(r"/metrics", _Metrics), *_results(redaction)])

    def start(self) -> None:
        self._refresh.start()
        super().start()

    def _replace(self, prefix: str | None, handlers: list[tuple[str, type]]) -> None:
        self.add_handlers(r".*", [rewrite_handler(each, prefix) if prefix else each for each in handlers])


def plainly(task: Any) -> Any:
    """A row as a page shows it: how a job stands, and what came of it, each in one line."""
    if task.name == GENERATE and (facts := rows.facts_read(task.kwargs or "")):
        task.kwargs = rows.facts_told(facts)
    task.result = task.result or task.exception
    return task


class _Metrics(Metrics):  # type: ignore[misc]
    @web.authenticated
    async def get(self) -> None:
        await super().get()


class _Inspector(Inspector):  # type: ignore[misc]
    """Workers' answers hold the arguments of tasks as they came, and where their broker is."""

    def __init__(self, *args: Any, redaction: Redaction) -> None:
        super().__init__(*args)
        self._redaction = redaction

    def _on_update(self, workername: str, method: str, response: Any) -> None:
        if method in self.task_inspect_methods:
            response = self._redaction.requests(response)
        elif method == "stats":
            response = self._redaction.stats(response)
        super()._on_update(workername, method, response)


def _results(redaction: Redaction) -> list[tuple[str, type]]:
    """Flower's doors to Celery's results, which hold the pictures' URLs."""

    class Redacted:
        def update_response_result(self, response: dict[str, Any], result: Any) -> None:
            super().update_response_result(response, result)  # type: ignore[misc]
            response.update(
                redaction.deep({name: response[name] for name in ("result", "traceback") & response.keys()})
            )

    found = type("_Result", (Redacted, TaskResult), {})
    applied = type("_Apply", (Redacted, TaskApply), {})
    return [(r"/api/task/result/(.+)", found), (r"/api/task/apply/(.+)", applied)]


def logins_of(options: Any) -> list[str]:
    """Raises: SystemExit where anybody could enter without it being said on purpose."""
    told = ",".join(options.basic_auth or ()) or environment().get(VARIABLE, "")
    if not told and (options.auth or environment().get("FLOWER_UNAUTHENTICATED_API", "").lower() == "true"):
        return []
    try:
        return list(logins(told))
    except ConfigurationError as error:
        raise SystemExit(f"Flower is not started: {error.faults[0]}") from None


def kept_in(file: Path) -> str:
    """Raises: SystemExit where others could change the file: it is a pickle, and is believed."""
    try:
        folder = private_folder(file.parent)
        if folder.stat().st_uid != os.geteuid():
            raise LocalError(f"{folder} belongs to somebody else")
        return str(folder / file.name)
    except (LocalError, OSError) as error:
        raise SystemExit(
            f"Flower is not started: its rows cannot be kept in {file.parent}: {error}. "
            "Name a file in a private folder by FLOWER_DB, or keep none: FLOWER_PERSISTENT=false"
        ) from None
