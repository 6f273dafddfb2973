"""What a step carries of the shared Lua, and what it costs."""

from __future__ import annotations

import pytest

from orchestrator.store.steps import pieces_of, with_needed
from tests import store_kit
from tests.store_kit import NOW, have, new, numbered, succeed

server, raw, store = store_kit.server, store_kit.raw, store_kit.store

CONSTANTS = "local A, B = 1,\n  2\n"
INNER = "local function inner() return A end\n"
OUTER = "local function outer()\n  local other = inner()\n  return other\nend\n"
OTHER = "local function other() return 'outer' end\n"
SELDOM = "local function lapse(why)  -- seldom\n  outer(why)\nend\n"
LAPSE = f"local function lapse(why)\n{CONSTANTS}{INNER}{OTHER}{OUTER}  outer(why)\nend\n"
PIECES = pieces_of(f"-- outer and inner\n{CONSTANTS}-- inner\n{INNER}{OTHER}{OUTER}{SELDOM}")


@pytest.mark.parametrize(
    ("step", "carried"),
    [
        ("return 1", ""),
        ("return B", CONSTANTS),
        ("return inner()", CONSTANTS + INNER),
        ("return outer()", CONSTANTS + INNER + OTHER + OUTER),  # `other` is mentioned, at least
        ("-- as outer\nreturn 'inner'", ""),  # comments and texts call nothing
    ],
)
def test_step_carries_what_it_calls_and_what_that_calls(step, carried):
    assert with_needed(PIECES, step) == carried + step


def test_what_is_seldom_called_carries_what_it_needs_within_itself():
    assert with_needed(PIECES, "lapse(1)") == LAPSE + "lapse(1)"
    own, carried = SELDOM.replace("lapse", "own"), LAPSE.replace("lapse", "own")
    assert with_needed(PIECES, f"{own}inner()") == CONSTANTS + INNER + carried + "inner()"


def test_what_a_success_costs_grows_neither_with_the_backlog_nor_with_the_accounts(store, raw):
    def commands(accounts: str, waiting: int, job: str) -> int:
        have(store, **dict.fromkeys(accounts, 1))
        ids = numbered(job, len(accounts) + waiting)
        store.enqueue(new(*ids, batch=job), NOW)
        assert store.open(f"{ids[0]}.1", NOW)
        assert succeed(store, "nobody.1") == []  # the server knows the step from now on
        raw.config_resetstat()
        assert succeed(store, f"{ids[0]}.1") == [f"{ids[len(accounts)]}.1"]
        return sum(told["calls"] for told in raw.info("commandstats").values())

    few = commands("ab", 10, "few")
    raw.flushall()
    assert commands("abcdefgh", 400, "many") == few
