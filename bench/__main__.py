"""`python -m bench NAME [options]`: one command per workload."""

from __future__ import annotations

import signal

import click

from bench.workloads.compare import compare_slots, compare_throughput
from bench.workloads.contender import contender
from bench.workloads.enqueue import enqueue
from bench.workloads.everything import everything
from bench.workloads.fairness import fairness
from bench.workloads.files import files
from bench.workloads.million import million
from bench.workloads.polling import polling
from bench.workloads.receiver import receiver
from bench.workloads.slots import slots
from bench.workloads.throughput import throughput
from bench.workloads.waiting import waiting


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Measure the product on this machine, which should have nothing else to do. Without a name: `all`."""
    signal.signal(signal.SIGTERM, _interrupt)  # so that the stack is ended, and its folder removed
    if context.invoked_subcommand is None:
        context.invoke(everything)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


OURS = (slots, throughput, polling, waiting, enqueue, receiver, million, contender, fairness, files)
for each in (everything, compare_slots, compare_throughput, *OURS):
    main.add_command(each)

if __name__ == "__main__":
    main(prog_name="python -m bench")
