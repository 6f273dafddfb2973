"""Valkey servers and a sentinel of the tests' own; and a TLS front for a server that has none."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import redis

from orchestrator.local.binary import find_binary
from orchestrator.local.processes import Command, Processes, free_port

PASSWORD = "a-password-that-must-never-show"
SENTINEL_PASSWORD = "another-that-must-never-show"
MASTER = "pictures"
SERVER = f"""\
bind 127.0.0.1
requirepass {PASSWORD}
masterauth {PASSWORD}
appendonly yes
save ""
repl-diskless-sync-delay 0
"""
SENTINEL = f"""\
bind 127.0.0.1
requirepass {SENTINEL_PASSWORD}
sentinel monitor {MASTER} 127.0.0.1 {{port}} 1
sentinel auth-pass {MASTER} {PASSWORD}
sentinel down-after-milliseconds {MASTER} 1000
sentinel failover-timeout {MASTER} 3000
"""


def answering(port: int, password: str) -> Callable[[], bool]:
    def answers() -> bool:
        try:
            with redis.Redis(port=port, password=password) as client:
                return bool(client.ping())
        except redis.exceptions.ConnectionError:
            return False

    return answers


def launch(processes: Processes, folder: Path, name: str, text: str, password: str, *words: str) -> int:
    """Starts a server of this configuration, and gives its port."""
    port = free_port()
    home = folder / name
    home.mkdir()
    config = home / "server.conf"
    config.write_text(f"port {port}\ndir {home}\n{text}")
    argv = (str(find_binary().path), str(config), *words)
    processes.launch(Command(name, argv, {}, home, home / "log", answering(port, password)))
    return port


@contextmanager
def watched(folder: Path) -> Iterator[tuple[Processes, Mapping[str, int]]]:
    """A master, its replica and a sentinel: the processes and their ports, by name."""
    with Processes() as processes:
        ports = {"first": launch(processes, folder, "first", SERVER, PASSWORD)}
        follows = f"{SERVER}replicaof 127.0.0.1 {ports['first']}\n"
        ports["second"] = launch(processes, folder, "second", follows, PASSWORD)
        text = SENTINEL.format(port=ports["first"])
        ports["sentinel"] = launch(processes, folder, "sentinel", text, SENTINEL_PASSWORD, "--sentinel")
        for name in ports:
            processes.wait(name)
        yield processes, ports


@contextmanager
def tls_front(to_port: int, context: ssl.SSLContext) -> Iterator[int]:
    """A port that ends TLS and hands on to another of this machine."""
    port, loop, started = free_port(), asyncio.new_event_loop(), threading.Event()

    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", to_port)
        await asyncio.gather(pipe(reader, back_writer), pipe(back_reader, writer))

    async def listen() -> None:
        await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
        started.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.set_exception_handler(lambda *_: None)  # a handshake that is refused
        loop.create_task(listen())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
