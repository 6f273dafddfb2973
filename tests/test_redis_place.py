"""Redis by one URL: a server, a socket, sentinels; with TLS. Read in plain words, and spoken to for real."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from orchestrator.broker import make_app
from orchestrator.celery_urls import broker_conf, check_broker, results_conf
from orchestrator.errors import StoreUnavailable
from orchestrator.local.processes import Processes, free_port
from orchestrator.local.stack import PYTHON
from orchestrator.redis_place import redis_place
from orchestrator.store import Store
from tests.sentinel_kit import PASSWORD, SERVER, launch
from tests.stack_kit import REPOSITORY

SECRET = "a-password"
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # Celery's call


def test_what_a_url_says():
    place = redis_place(f"sentinel://user:{SECRET}@one,[::1]:7/3?master=pictures&sentinel_password=other")
    assert place.hosts == (("one", 26379), ("::1", 7))
    assert (place.db, place.username, place.password, place.master) == (3, "user", SECRET, "pictures")
    assert place.sentinel_password == "other" and SECRET not in repr(place) and "other" not in repr(place)
    assert redis_place("unix:///run/redis.sock?db=2").path == "/run/redis.sock"
    assert redis_place("redis://:a%2Fb@h").password == "a/b"
    assert redis_place("rediss://h").tls.verified and not redis_place("redis://h").tls


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"http://:{SECRET}@h", "must begin with redis://"),
        (f"redis://:{SECRET}@:6379", "names no host"),
        (f"redis://:{SECRET}@h:port", "a port that is none"),
        (f"redis://:{SECRET}@h/first", "names the database 'first'"),
        (f"redis://:{SECRET}@h?ssl_ca_certs=/x", "has the option 'ssl_ca_certs'; known here are: none"),
        (f"rediss://:{SECRET}@h?ssl_ca_certs=/no/such", "ssl_ca_certs=/no/such, a file that cannot be read"),
        (f"rediss://:{SECRET}@h?ssl_certfile=/etc/hostname", "give both, or none"),
        (f"rediss://:{SECRET}@h?ssl_cert_reqs=maybe", "it must be required, or none"),
        (f"sentinel://:{SECRET}@h", "append ?master=NAME"),
        (f"redis://:{SECRET}[@h", "must be percent-encoded"),
    ],
)
def test_wrong_url_is_refused_in_words_that_show_no_password(url, said):
    for read in (redis_place, check_broker):
        with pytest.raises(ValueError) as refused:
            read(url)
        assert SECRET not in str(refused.value)
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        redis_place(url)


def test_celery_is_told_in_its_own_words():
    url = f"rediss+sentinel://:{SECRET}@one:1,two:2/3?master=pictures&sentinel_password=other"
    told = broker_conf(url)
    assert told["broker_url"] == f"sentinel://:{SECRET}@one:1/3;sentinel://:{SECRET}@two:2/3"
    assert told["broker_use_ssl"]["ssl_cert_reqs"] is ssl.CERT_REQUIRED
    options = told["broker_transport_options"]
    assert options["master_name"] == "pictures"
    assert options["sentinel_kwargs"]["password"] == "other" and options["sentinel_kwargs"]["ssl"]
    assert results_conf(url)["result_backend_transport_options"]["master_name"] == "pictures"
    amqp = broker_conf(f"amqps://u:{SECRET}@rabbit/pictures")
    assert amqp["broker_url"] == f"amqp://u:{SECRET}@rabbit:5671/pictures"
    assert amqp["broker_use_ssl"] == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "rabbit"}
    assert "socket_timeout" not in amqp["broker_transport_options"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    folder = tmp_path_factory.mktemp("one")
    path = folder / "redis.sock"
    with Processes() as processes:
        port = launch(processes, folder, "one", f"{SERVER}unixsocket {path}\n", PASSWORD)
        processes.wait("one")
        yield port, path


def speaks(url: str) -> None:
    """Store, broker and results, over this URL."""
    store = Store(url)
    app = make_app(url, url)
    try:
        store.ping()
        with app.connection_for_write() as connection:
            queue = connection.SimpleQueue("words")
            queue.put("a fox")
            assert queue.get(timeout=10).payload == "a fox"
            queue.close()
        app.backend.store_result("job", {"path": "x"}, "SUCCESS")
        assert app.AsyncResult("job").get(timeout=10) == {"path": "x"}
    finally:
        app.close()
        store.close()


def test_socket_is_spoken_to(server):
    speaks(f"unix://:{PASSWORD}@{server[1]}?db=4")


@pytest.fixture(scope="module")
def certified(
    server: tuple[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., str]]:
    """The server behind TLS that asks for a certificate of ours."""
    folder, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    ours = authority.issue_cert("client")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    ours.private_key_pem.write_to_path(str(folder / "key.pem"))
    ours.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    theirs = authority.issue_cert("localhost")
    theirs.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    port = free_port()
    argv = (*PYTHON, "tests.tls_front", str(port), str(server[0]))
    argv += (str(folder / "server.pem"), str(folder / "ca.pem"))

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with Processes() as processes:
        processes.start(
            "front", argv, env=dict(os.environ), cwd=REPOSITORY, log=folder / "front.log", ready=listens
        )

        def url(**files: Any) -> str:
            told = "&".join(f"{name}={folder / file}" for name, file in files.items())
            return f"rediss://:{PASSWORD}@localhost:{port}/0?{told}"

        yield url


def test_tls_is_spoken_with_our_certificate_and_the_servers_is_verified(certified):
    speaks(certified(ssl_ca_certs="ca.pem", ssl_certfile="cert.pem", ssl_keyfile="key.pem"))
    for files in ({"ssl_ca_certs": "ca.pem"}, {"ssl_certfile": "cert.pem", "ssl_keyfile": "key.pem"}):
        store = Store(certified(**files))
        try:
            with pytest.raises(StoreUnavailable):
                store.ping()
        finally:
            store.close()
