"""`python -m orchestrator.celery -A workers worker`, or `beat`: these two of Celery's commands alone.

`celery` itself loads Flower, a shell and all that they need before it looks at what it is asked for: 14 MB
for as long as it runs. The options are the same.
"""

from __future__ import annotations

import sys

import click
from celery import maybe_patch_concurrency


def main() -> None:
    """Does not return. Only in a process that has imported nothing yet which opens sockets."""
    maybe_patch_concurrency()  # where `--pool` asks for it, and so before the rest of Celery
    sys.modules["pygments"] = None  # type: ignore[assignment]  # colours of commands that are not here
    from celery.app.utils import find_app
    from celery.bin.base import CLIContext
    from celery.bin.beat import beat
    from celery.bin.worker import worker

    del sys.modules["pygments"]

    @click.group("celery", commands=[worker, beat])
    @click.option("-A", "--app", required=True)
    @click.pass_context
    def celery(context: click.Context, app: str) -> None:
        context.obj = CLIContext(app=find_app(app), no_color=False, workdir=None)

    celery(auto_envvar_prefix="CELERY")


if __name__ == "__main__":
    main()
