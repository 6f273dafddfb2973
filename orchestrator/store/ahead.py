"""Calls one after the other, of which the next is made ready while one is on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def in_turn(call: Callable[..., Any], all_arguments: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """What each call gives, in their order. None begins before the one before it has answered.

    Raises: what a call does; no other begins then.
    """
    ready = iter(all_arguments)
    for arguments in ready:  # a single one needs no thread
        yield call(*arguments)
        break
    with ThreadPoolExecutor(1) as aside:
        on_its_way = None
        for arguments in ready:
            if on_its_way:
                yield on_its_way.result()
            on_its_way = aside.submit(call, *arguments)
        if on_its_way:
            yield on_its_way.result()
