"""The flow of this process, built once from the environment."""

from __future__ import annotations

import atexit
import logging
import sys
from functools import cache
from pathlib import Path
from typing import Any

from celery.signals import (
    after_setup_logger,
    after_setup_task_logger,
    beat_init,
    celeryd_after_setup,
    worker_process_shutdown,
    worker_ready,
)
from kombu.transport.redis import Transport

from orchestrator.broker import QUEUES
from orchestrator.build import Built
from orchestrator.celery_urls import speaks_redis
from orchestrator.environment import environment, logs_are_json
from orchestrator.errors import ConfigurationError, StoreUnavailable
from orchestrator.events import log
from orchestrator.garbage import leave_out_what_is_loaded
from orchestrator.logs import dress, set_up
from orchestrator.metrics.place import prepare_folder, remove_folder
from orchestrator.settings import metrics_address
from orchestrator.start import PATIENCE_SECONDS, started
from workers import hints, popping

# One line per task is ours to write; Celery's own would come three times for each job.
QUIET_LOGGERS = ("celery.app.trace", "celery.worker.strategy", "celery.beat", "urllib3")

EARLY_HANDLERS: list[logging.Handler] = []  # until Celery has set its log up
PROCESS_POOLS = ("prefork", "processes")  # what `--pool`, or Celery's variable WORKER_POOL, says

# What a killed worker had taken is taken back in seconds, where the defaults take an hour. The keys are ours:
# every worker of this Redis takes back what it finds under the default ones, when it thinks that it is time.
TAKEN_BACK_SOON = {
    "visibility_timeout": 15,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "unacked_key": "orchestrator.unacked",
    "unacked_index_key": "orchestrator.unacked_index",
    "unacked_mutex_key": "orchestrator.unacked_mutex",
}


# Acknowledging a message, or giving it back, on a connection that is gone: kombu 5.7 looks for the address in
# what is None by then, and the worker ends of it. It is a lost connection, as KeyError is to kombu already.
Transport.connection_errors += (AttributeError,)


@cache
def built() -> Built:
    """Raises: ConfigurationError, StoreUnavailable; under the `celery` command their words end it plainly."""
    serves = Path(sys.argv[0]).stem == "celery" or Path(sys.argv[0]).parent.name == "celery"
    if serves and logs_are_json():
        log_from_the_start()
    try:
        if serves:
            metrics_folder()
        # The ticker only sends: what it takes to submit and to collect stays out of it.
        made = started(PATIENCE_SECONDS if serves else 0.0, measures=serves, lean="beat" in sys.argv)
    except (ConfigurationError, StoreUnavailable) as error:
        if serves:
            raise SystemExit(f"orchestrator: {error}") from None
        raise
    atexit.register(made.close)
    return made


@cache
def metrics_folder() -> Path | None:
    """Where the processes of a worker add up what they measure; None where it is one, or measures nothing.

    To be called before anything is measured. Raises: OSError.
    """
    told = (*sys.argv, environment().get("WORKER_POOL", ""))
    if not metrics_address() or not any(word.endswith(PROCESS_POOLS) for word in told):
        return None
    folder = prepare_folder()
    atexit.register(remove_folder, folder)
    return folder


@after_setup_logger.connect  # type: ignore[untyped-decorator]
@after_setup_task_logger.connect  # type: ignore[untyped-decorator]
def set_up_logs(logger: logging.Logger, **_: Any) -> None:
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for handler in EARLY_HANDLERS:
        logger.removeHandler(handler)
    dress(logger.handlers)


def log_from_the_start() -> None:
    """What is said before Celery has set its log up is JSON, too; what it prints beside it is not said."""
    from celery.apps import beat, worker

    set_up()
    EARLY_HANDLERS[:] = logging.getLogger().handlers
    logging.getLogger()._rudimentary_setup = True  # type: ignore[attr-defined]  # Celery adds its own handler

    beat.Beat.quiet = worker.Worker.quiet = property(lambda self: True, lambda self, told: None)
    worker.safe_say = lambda *_: None


@beat_init.connect  # type: ignore[untyped-decorator]
def say_that_it_ticks(sender: Any, **_: Any) -> None:
    ours = built().flow.broker.app.conf.beat_scheduler
    if sender.scheduler_cls != ours:
        raise SystemExit(f"orchestrator: no scheduler but {ours} ticks: leave out --scheduler")
    log("ticker.started")


@worker_ready.connect  # type: ignore[untyped-decorator]
def be_ready(**_: Any) -> None:
    leave_out_what_is_loaded()


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def flush(**_: Any) -> None:
    """Of a prefork child, which ends without its exit handlers."""
    built().parts.flush()


@celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def take_back_soon(instance: Any, conf: Any, **_: Any) -> None:
    """Only for a worker of our queues alone: other people's tasks may not bear to be delivered twice."""
    hints.install()
    popping.install()
    redis = speaks_redis(conf.broker_url)  # RabbitMQ gives back at once what a lost connection held
    if redis and set(instance.app.amqp.queues.consume_from) <= set(QUEUES):
        conf.broker_transport_options = {**conf.broker_transport_options, **TAKEN_BACK_SOON}
