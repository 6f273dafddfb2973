"""A task that leaves by `Ignore` costs no traceback; one that fails still has its own."""

from __future__ import annotations

import pytest
from celery.app.trace import build_tracer
from celery.exceptions import Ignore


@pytest.fixture
def traced(environment):
    from workers import app

    def run(error: Exception):
        @app.task(name=f"tests.{type(error).__name__}", ignore_result=True)
        def leaves():
            raise error

        return build_tracer(leaves.name, leaves, app=app)("an-id", (), {}, {})

    return run


def test_task_that_leaves_writes_no_traceback_and_is_ignored_all_the_same(traced):
    told, info, *_ = traced(Ignore("left"))
    assert (info.state, told.exception.args, told.traceback, told.tb) == ("IGNORED", ("left",), "", None)
    assert told.exception.__traceback__ is None


def test_task_that_fails_keeps_its_traceback(traced):
    told, info, *_ = traced(ValueError("broken"))
    assert info.state == "FAILURE"
    assert "in leaves" in told.traceback and "broken" in told.traceback
