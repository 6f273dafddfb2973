"""`python -m bench NAME [options]`: one command per workload."""

from __future__ import annotations

import signal

import click

from bench.workloads.contender import contender
from bench.workloads.enqueue import enqueue
from bench.workloads.fairness import fairness
from bench.workloads.files import files
from bench.workloads.million import million
from bench.workloads.polling import polling
from bench.workloads.receiver import receiver
from bench.workloads.slots import slots
from bench.workloads.throughput import throughput
from bench.workloads.waiting import waiting


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure the product on this machine. It should have nothing else to do meanwhile."""
    signal.signal(signal.SIGTERM, _interrupt)  # so that the stack is ended, and its folder removed


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


for each in (slots, throughput, receiver, million, contender, fairness, files, waiting, polling, enqueue):
    main.add_command(each)

if __name__ == "__main__":
    main(prog_name="python -m bench")
