"""What ticker, receiver and client load: nothing of what only others need. Memory is what a module costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.stack_kit import PATIENCE

TICKER = """
sys.argv = ["celery", "-A", "workers", "beat", "--help"]
from orchestrator.celery import main
try:
    main()
except SystemExit as end:
    assert not end.code, end
"""
RECEIVER = "import webhooks.wsgi"
WORKER = """
from celery.signals import worker_ready
from workers import app
from workers.wiring import be_ready
assert any(each() is be_ready for _, each in worker_ready.receivers)
be_ready()
"""
CLIENT = "from orchestrator import Orchestrator; Orchestrator.from_env().close()"
LOADED = "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
OF_OTHERS = {
    "requests",
    "urllib3",
    "fsspec",
    "rich",
    "prometheus_client",
    "flower",
    "prompt_toolkit",
    "pygments",
}


@pytest.mark.parametrize(
    ("start", "own"),
    [(TICKER, {"celery", "workers"}), (RECEIVER, {"flask", "webhooks"}), (CLIENT, {"celery", "redis"})],
)
def test_process_loads_what_it_needs_and_nothing_of_others(environment, start, own):
    code = f"import sys\n{start}\n{LOADED}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert own <= loaded
    assert not OF_OTHERS & loaded


LATE = """
from orchestrator.build import build, read_settings
from orchestrator.models import Request
built = build(read_settings(), lean=True)
assert "requests" not in sys.modules and "fsspec" not in sys.modules
built.close()  # what was never made is not made for this
assert "requests" not in sys.modules
upstream, simulator = built.flow.exchange.upstream, sys.argv[1]
assert upstream.send(Request("GET", f"{simulator}/__stats__"), 30).status == 200
list(built.flow.exchange.artifacts.kept())
built.close()
"""


def test_lean_process_speaks_to_a_provider_and_to_the_place_for_pictures_all_the_same(stack, environment):
    code = f"import sys\n{LATE}"
    argv = [sys.executable, "-c", code, stack.simulator_url]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("start", [RECEIVER, WORKER])
def test_process_does_not_look_for_garbage_in_what_it_has_loaded(environment, start):
    code = f"import gc\n{start}\nprint(gc.get_freeze_count(), len(gc.get_objects()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert not done.returncode, done.stderr
    loaded, looked_through = map(int, done.stdout.split())
    assert looked_through < loaded / 10
