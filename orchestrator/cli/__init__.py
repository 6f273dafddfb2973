"""`orchestrator …`: thin commands over the client, the local stack and the demo.

What is slow to import is imported by the commands that need it: `orchestrator --help` is quick.
"""

from __future__ import annotations

import signal

import click

from orchestrator.cli import (
    batches,
    callbacks,
    collecting,
    dead,
    files,
    jobs,
    local,
    notices,
    operate,
    recover,
    report,
    spend,
    watch,
)

COMMANDS = (
    *(local.demo, local.up, local.simulate, local.doctor, local.providers, local.openapi),
    *(files.run, jobs.enqueue, jobs.status, jobs.explain, jobs.forecast, watch.watch, watch.top),
    *(operate.accounts, operate.pause, operate.resume, operate.drain, operate.weigh, dead.dead),
    *(batches.list_, batches.limit, batches.cancel, batches.prioritise, batches.retry, batches.purge),
    *(spend.spend, spend.cap, callbacks.callbacks, notices.notices, recover.recover, report.report),
    *(collecting.collecting, collecting.refresh),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="orchestrator")
def main() -> None:
    """Thousands of image generations: enqueue, walk away, find the pictures."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


for command in COMMANDS:
    main.add_command(command)
