"""Celery as producer: the app, the queues, and the messages of a job.

A job is one Celery task. Its message is sent twice under the same id: to submit, and to finish. Between the
two no message exists. A message is a hint: the store sends it again, so one that is lost costs only time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from celery import Celery, Signature
from kombu.entity import Queue
from kombu.exceptions import ChannelError, OperationalError

from orchestrator import redis_queues, rows
from orchestrator.celery_urls import CONNECT_SECONDS, WAIT_SECONDS, broker_conf, results_conf
from orchestrator.events import log, warn
from orchestrator.models import CLAIM_PUSH_SECONDS, RETENTION, Message
from orchestrator.observer import NOBODY, Observer
from orchestrator.redis_queues import Sent
from orchestrator.results import Results
from orchestrator.task_events import TaskEvents

GENERATE = "orchestrator.generate"
TICK = "orchestrator.tick"
POLL = "orchestrator.poll"
NOTIFY = "orchestrator.notify"
SUBMIT_QUEUE, FINISH_QUEUE = "orchestrator.submit", "orchestrator.finish"
POLL_QUEUE, TICK_QUEUE, NOTIFY_QUEUE = "orchestrator.poll", "orchestrator.tick", "orchestrator.notify"
QUEUES = (SUBMIT_QUEUE, FINISH_QUEUE, POLL_QUEUE, TICK_QUEUE, NOTIFY_QUEUE)

# For RabbitMQ: said, so that a virtual host of another default takes our workers' prefetch all the same. Not
# quorum: what it would keep safe is a hint, which the store sends again. No priorities: the lanes have them.
QUEUE_ARGUMENTS = {"x-queue-type": "classic"}

PHASE, ATTEMPT, TRACE = "job_phase", "job_attempt", "job_trace"  # message headers
SUBMIT, FINISH, REFUSED = "submit", "finish", "refused"
REASON = "job_reason"  # header of a refused job
QUEUE_OF = {SUBMIT: SUBMIT_QUEUE, FINISH: FINISH_QUEUE, REFUSED: FINISH_QUEUE}
SHOWN_AS = {SUBMIT: rows.SUBMITTING, FINISH: rows.FINISHING, REFUSED: rows.REFUSED}

NOTHING_MORE: Mapping[str, Any] = {}
TICK_SECONDS = 1.0
WORKER_THREADS = 32


def make_app(broker_url: str, result_url: str, result_seconds: int = RETENTION.ended) -> Celery:
    """The Celery app, configured so that nothing depends on the broker's memory of a message.

    `result_seconds`: for how long results are kept; longer than the longest wait of a chord.
    """
    app = Celery("orchestrator")
    app.conf.update(
        **broker_conf(broker_url),
        **results_conf(result_url),
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_default_queue=SUBMIT_QUEUE,
        task_queues=[Queue(name, queue_arguments=QUEUE_ARGUMENTS) for name in QUEUES],  # type: ignore[no-untyped-call]
        task_create_missing_queues=True,
        result_expires=result_seconds,
        result_backend_always_retry=True,
        result_backend_thread_safe=True,
        redis_backend_health_check_interval=30,
        # A server that vanished without a word must not hold a thread for the default 120 s.
        redis_socket_timeout=WAIT_SECONDS,
        redis_socket_connect_timeout=CONNECT_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # for ever: the default gives up after 100 tries
        # A server that is full or read-only answers with an error: the consumer is to come back, not to end.
        broker_channel_error_retry=True,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_pool_acquire_timeout=CONNECT_SECONDS,  # the default waits for ever, callbacks and all
        worker_pool="workers.pool:TaskPool",
        worker_concurrency=WORKER_THREADS,
        worker_prefetch_multiplier=2,
        # What runs goes on over a lost connection: a POST that is cut off is an uncertain one.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_prefetch_count_reduction=False,  # after a reconnect it would take less than it can do
        worker_send_task_events=True,
        worker_consumer="workers.consuming:TellingConsumer",
        worker_hijack_root_logger=False,
        beat_scheduler="workers.ticking:Ticker",
    )
    return app


class Broker:
    """Sends what a job needs sent. Thread-safe."""

    def __init__(self, app: Celery, observer: Observer = NOBODY) -> None:
        self.app = app
        self.results = Results(app)
        self.task_events = TaskEvents(app)
        self._observer = observer
        self._see_to: Callable[[Sequence[Sent], Sequence[Sent]], None] = self._publish_all

    def put_off(self, later: Callable[[Sequence[Sent], Sequence[Sent]], None]) -> None:
        """Let `later` see to it that hints are published, so that who has them sent need not wait.

        It is handed those that fill slots, and those that may wait for them.
        """
        self._see_to = later

    def submit(self, messages: Sequence[Message]) -> None:
        """Ask workers to submit these granted attempts."""
        self.go_on(submits=messages)

    def finish(self, messages: Sequence[Message]) -> None:
        """Ask workers to finish these jobs as the tasks they are."""
        self.go_on(finishes=messages)

    def go_on(self, submits: Sequence[Message] = (), finishes: Sequence[Message] = ()) -> None:
        """Ask workers for both, in one go."""
        filling, waiting = self._all_made(submits, SUBMIT), self._all_made(finishes, FINISH)
        if filling or waiting:
            self._see_to(filling, waiting)

    def refuse(self, message: Message, reason: str) -> None:
        """Let a task that could not become a job fail as itself, for its links and chords to see.

        Not safe to call twice. Raises: OperationalError; nobody sends it again.
        """
        self._publish([self._sent(message, REFUSED, {REASON: reason})], again=False)

    def tick(self) -> None:
        """Ask a worker to see to what is due."""
        self._ask(TICK, (), TICK_QUEUE)

    def poll(self, attempts: Sequence[tuple[str, float]], until: float) -> None:
        """Ask a worker to ask the providers how these attempts are doing, each at its moment.

        It also sees to those that become due again before `until` (unix seconds).
        """
        self._ask(POLL, (list(attempts), until), POLL_QUEUE)

    def notify(self, host: str) -> None:
        """Ask a worker to send what notices wait for a host."""
        self._ask(NOTIFY, (host,), NOTIFY_QUEUE)

    def call(self, signature: str, argument: Mapping[str, Any], task_id: str) -> None:
        """Call a Celery signature, as JSON, with one argument more. Raises: whatever Celery does."""
        Signature.from_dict(json.loads(signature), app=self.app).apply_async((argument,), task_id=task_id)

    def ping(self) -> None:
        """Raises: OSError or kombu's OperationalError where the broker does not answer."""
        with self.app.connection_for_write(connect_timeout=2) as connection:
            connection.ensure_connection(max_retries=0, timeout=2)

    def waiting(self) -> dict[str, int]:
        """The messages in each of our queues that no worker has taken. Raises: as `ping` does."""
        with self.app.connection_for_write(connect_timeout=2) as connection:
            connection.ensure_connection(max_retries=0, timeout=2)
            return waiting_in(connection, QUEUES)

    def workers(self, timeout_seconds: float) -> dict[str, set[str]]:
        """The workers that answer, and the queues that each takes from."""
        answers = self.app.control.inspect(timeout=timeout_seconds).active_queues() or {}
        return {name: {queue["name"] for queue in queues} for name, queues in answers.items()}

    def _ask(self, task: str, arguments: Sequence[Any], queue: str) -> None:
        try:
            self.app.send_task(task, arguments, queue=queue, ignore_result=True, expires=CLAIM_PUSH_SECONDS)
        except OperationalError as error:
            self._postponed(task, error)

    def _publish_all(self, filling: Sequence[Sent], waiting: Sequence[Sent]) -> None:
        self.publish([*filling, *waiting])

    def publish(self, made: Sequence[Sent]) -> None:
        """Send hints that are made. What cannot be sent is told, and raises nothing."""
        try:
            self._publish(made)
        except OperationalError as error:
            for each in made:
                self._postponed(each.headers[PHASE], error)
        except Exception:  # the store has them, and the due list sends them again
            for each in made:
                self._observer.not_published(each.headers[PHASE])
            log("publish.failed", logging.ERROR, exc_info=True, messages=len(made))

    def _publish(self, made: Sequence[Sent], again: bool = True) -> None:
        with self.app.connection_or_acquire() as connection:
            if redis_queues.on_redis(connection):
                return redis_queues.push(connection, made, again)
        with self.app.producer_or_acquire() as producer:
            for each in made:
                self.app.amqp.send_task_message(
                    producer, GENERATE, each.task, queue=each.queue, headers=each.headers
                )

    def _all_made(self, messages: Sequence[Message], phase: str) -> list[Sent]:
        return [each for message in messages if (each := self._made(message, phase))]

    def _made(self, message: Message, phase: str) -> Sent | None:
        try:
            return self._sent(message, phase)
        except Exception:  # one message that cannot be made must not hold up the others
            self._observer.not_published(phase)
            log("publish.failed", logging.ERROR, exc_info=True, job=message.job_id, phase=phase)
            return None

    def _sent(self, message: Message, phase: str, more: Mapping[str, Any] = NOTHING_MORE) -> Sent:
        headers = {**(message.options.get("headers") or {}), PHASE: phase, ATTEMPT: message.attempt, **more}
        return Sent(QUEUE_OF[phase], self._task(message, SHOWN_AS[phase]), headers)

    def _postponed(self, what: str, error: Exception) -> None:
        # The due list sends it again; the error's text may hold the broker's URL.
        warn("publish.postponed", what=what, error=type(error).__name__)
        self._observer.not_published(what)

    def _task(self, message: Message, shown_as: str) -> Any:
        options = message.options
        stamps = {name: options["stamps"][name] for name in options.get("stamped_headers") or ()}
        plain = {name: value for name, value in options.items() if name not in ("stamps", "headers")}
        parameters = dict(message.parameters)
        return self.app.amqp.as_task_v2(
            message.job_id,
            GENERATE,
            [message.provider, parameters],
            {},
            argsrepr=rows.asked(parameters),
            kwargsrepr=rows.facts(shown_as, provider=message.provider, attempt=message.attempt),
            **plain,
            **stamps,
        )


def is_hint(headers: Mapping[str, Any]) -> bool:
    """Whether the due list, or the next tick, brings a message once more if it is lost."""
    return headers.get(PHASE) in (SUBMIT, FINISH) or headers.get("task") in (TICK, POLL, NOTIFY)


def waiting_in(connection: Any, queues: Iterable[str]) -> dict[str, int]:
    """Queue → messages in it that no worker has taken. Raises: whatever the broker's transport does."""
    count = redis_queues.waiting_in if redis_queues.on_redis(connection) else _waiting_in
    return {queue: count(connection, queue) for queue in queues}


def _waiting_in(connection: Any, queue: str) -> int:
    with connection.channel() as channel:  # of its own: RabbitMQ closes one that names what does not exist
        try:
            return int(channel.queue_declare(queue=queue, passive=True).message_count)
        except ChannelError:  # it is empty, and so does not exist
            return 0
