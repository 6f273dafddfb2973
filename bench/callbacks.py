"""Genuine callbacks of attempts that are open, as the simulator would send them; none is sent here."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from bench.batch import prompts
from bench.stack import FRAMES
from orchestrator import Orchestrator
from orchestrator.intake import new_job
from orchestrator.models import attempt_id
from orchestrator.signatures import Reference, sign_reference
from orchestrator.simulator.apis.useapi_frames import UseapiFrames
from orchestrator.simulator.apis.useapi_frames_output import task_id
from orchestrator.simulator.courier import Courier
from orchestrator.simulator.engine import Engine
from orchestrator.simulator.model import Account, Order, Task
from orchestrator.simulator.options import Options
from orchestrator.simulator.tally import Tally
from orchestrator.simulator.timers import Timers

DAY = 86_400
PICTURE = {"width": 1920, "height": 1088, "num_images": 1}
REQUEST = "POST /callbacks/{provider}/{reference} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n{body}"
HEADERS = "Content-Type: application/json\r\nContent-Length: {length}\r\n"


@dataclass(frozen=True)
class Open:
    """An attempt that the provider is known to run. Both callbacks as they go over the wire."""

    progress: str
    final: str


def open_attempts(client: Orchestrator, jobs: int, batch: str) -> Iterator[Open]:
    """Jobs whose attempts are submitted, as far as there are slots: without a POST, and without a worker."""
    flow = client.flow
    now = time.time()
    asked = {"batch": batch}
    new = [new_job(flow.exchange, None, FRAMES, each, asked, now) for each in prompts(jobs, batch)]
    prompt_of = {job.id: job.parameters["text_prompt"] for job in new}
    _, granted = flow.store.enqueue(new, now)
    for message in granted:
        attempt = attempt_id(message.job_id, message.attempt)
        opened = flow.store.open(attempt, now)
        assert opened
        reference = sign_reference(FRAMES, Reference(attempt, opened.account), flow.exchange.keys)
        callback_url = f"{flow.exchange.public_url}/callbacks/{FRAMES}/{reference}"
        task = _task(prompt_of[message.job_id], opened.account, reference, callback_url, now)
        flow.store.submitted(attempt, task_id(task), now, now + DAY, f"{FRAMES}/", True)
        yield Open(_request(task, now + 1), _request(_ended(task, now + 2), now + 2))


TIMERS = Timers()  # never started, so that nothing is sent
API = UseapiFrames(Engine(Options(), TIMERS, Courier(TIMERS)))


def _task(prompt: str, account: str, reference: str, callback_url: str, now: float) -> Task:
    parameters: dict[str, object] = {"text_prompt": prompt, **PICTURE}
    order = Order(
        API, prompt, "http://127.0.0.1:9", reply_url=callback_url, reply_ref=reference, parameters=parameters
    )
    return Task(
        id=str(uuid.uuid4()), order=order, account=Account(f"{account}@example.com", 10), tally=Tally(),
        markers=frozenset(), dice=uuid.uuid4().int >> 64, seconds=2.0, created_at=now, started_at=now,
        limit=10,
    )  # fmt: skip


def _ended(task: Task, now: float) -> Task:
    task.ended_at, task.status = now, "SUCCEEDED"
    return task


def _request(task: Task, moment: float) -> str:
    body = API.callback_body(task.at(moment)).decode()
    headers = HEADERS.format(length=len(body))
    return REQUEST.format(provider=FRAMES, reference=task.order.reply_ref, headers=headers, body=body)
