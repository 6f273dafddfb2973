"""A picture's host leads to the Internet and nowhere else, whatever its name is said to mean, and when."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from orchestrator import connections
from orchestrator.addresses import is_public
from orchestrator.errors import CollectFailed
from orchestrator.upstream import Upstream

HOST = "d1.cloudfront.net"
HOSTS = (".cloudfront.net",)
URL = f"https://{HOST}/0.png"
BASE_URL = "https://api.example.com/v1"
PUBLIC = "93.184.216.34"
REAL_GETADDRINFO = socket.getaddrinfo


@pytest.mark.parametrize(
    "address", [PUBLIC, "1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "2a00:1450:4001::8a"]
)
def test_an_address_of_the_internet_may_be_called(address):
    assert is_public(address)


INSIDE = [
    *(
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.255.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
    ),
    *("169.254.169.254", "169.254.0.1", "100.64.0.1", "100.100.100.200", "100.127.255.255", "168.63.129.16"),
    *("192.0.0.8", "192.0.0.9", "192.0.0.170", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1"),
    *("203.0.113.1", "192.88.99.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", f"::ffff:{PUBLIC}"),
    *(
        "64:ff9b::127.0.0.1",
        f"64:ff9b::{PUBLIC}",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "3fff::1",
    ),
    *("2002:7f00:1::", "2002:a9fe:a9fe::", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo", "fec0::1"),
    *("ff02::1", "ff0e::1", "5f00::1", "4000::1"),
    *("", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "1.1.1.1%1", "2606:4700::1%eth0 x"),
]


@pytest.mark.parametrize("address", INSIDE)
def test_every_other_address_may_not(address):
    assert not is_public(address)


class Resolver:
    """Stands in for the system's: each question about the host is answered by the next of the answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.asked, self.called = 0, list[str]()
        self._answers = list(answers)
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)
        monkeypatch.setattr(socket.socket, "connect", lambda _, place: self._connect(place))

    def _look_up(self, host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        assert host == HOST
        self.asked += 1
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            found for each in addresses for found in REAL_GETADDRINFO(each, port, type=socket.SOCK_STREAM)
        ]

    def _connect(self, place: tuple[Any, ...]) -> None:
        self.called.append(place[0])
        raise ConnectionRefusedError("nobody is called in a test")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    made = Upstream()
    yield made
    made.close()


def download(upstream: Upstream, url: str = URL) -> bytes:
    with upstream.download(url, HOSTS, BASE_URL) as chunks:
        return b"".join(chunks)


@pytest.mark.parametrize(
    "answer",
    [["127.0.0.1"], ["::1"], ["169.254.169.254"], ["::ffff:10.0.0.1"], [PUBLIC, "10.0.0.1"], ["fe80::1"]],
)
def test_a_name_that_leads_inside_is_not_called(monkeypatch, upstream, answer):
    resolver = Resolver(monkeypatch, answer)
    with pytest.raises(
        CollectFailed, match=r"^the host 'd1\.cloudfront\.net' has an address that is not public$"
    ):
        download(upstream)
    assert resolver.called == []


def test_a_name_that_leads_inside_the_second_time_is_asked_for_only_once(monkeypatch, upstream):
    resolver = Resolver(monkeypatch, [PUBLIC], ["127.0.0.1"])
    with pytest.raises(CollectFailed, match="ConnectionError"):
        download(upstream)
    assert (resolver.asked, resolver.called) == (1, [PUBLIC])
    with pytest.raises(CollectFailed, match="not public"):
        download(upstream)
    assert (resolver.asked, resolver.called) == (2, [PUBLIC])


def test_each_address_of_a_name_is_tried(monkeypatch, upstream):
    resolver = Resolver(monkeypatch, [PUBLIC, "1.1.1.1"])
    with pytest.raises(CollectFailed):
        download(upstream)
    assert resolver.called == [PUBLIC, "1.1.1.1"]


def test_a_name_that_nobody_knows_is_a_failed_collect(monkeypatch, upstream):
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(CollectFailed, match="ConnectionError"):
        download(upstream)


# --- with TLS, as it is on the Internet ----------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """For the host alone, signed by itself."""
    if not shutil.which("openssl"):
        pytest.skip("openssl, which makes the certificate of this test, is not on PATH")
    folder = tmp_path_factory.mktemp("tls")
    key, made = folder / "key.pem", folder / "certificate.pem"
    options = ("-nodes", "-days", "1", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}")
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-keyout", key, "-out", made, *options)
    subprocess.run(command, check=True, capture_output=True)
    return made, key


@pytest.fixture
def serve(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[bytes], list[tuple[str | None, bytes]]]]:
    """A TLS server that every name leads to, and whose address counts as public. Gives what it was asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[tuple[str | None, bytes]] = []
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    threads: list[threading.Thread] = []

    def run(answer: bytes) -> None:
        with suppress(OSError):
            while True:
                with (
                    listener.accept()[0] as plain,
                    suppress(ssl.SSLError),
                    context.wrap_socket(plain, server_side=True) as connection,
                ):
                    while request := connection.recv(65536):
                        asked.append((names[-1], request))
                        connection.sendall(answer)

    def start(answer: bytes) -> list[tuple[str | None, bytes]]:
        threads.append(threading.Thread(target=run, args=(answer,)))
        threads[0].start()
        return asked

    def look_up(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        return REAL_GETADDRINFO("127.0.0.1", listener.getsockname()[1], type=socket.SOCK_STREAM)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(connections, "is_public", lambda address: address == "127.0.0.1")
    yield start
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in threads:
        thread.join(10)


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na picture"


def test_the_server_is_asked_by_its_name_and_known_by_it(serve, certificate, upstream):
    asked = serve(ANSWER)
    upstream._pictures.verify = str(certificate[0])
    assert [download(upstream) for _ in range(2)] == [b"a picture"] * 2
    assert [name for name, _ in asked] == [HOST] * 2
    assert all(f"\r\nHost: {HOST}\r\n".encode() in request for _, request in asked)


def test_a_server_that_is_not_the_one_is_told_nothing(serve, certificate, upstream):
    asked = serve(ANSWER)
    upstream._pictures.verify = str(certificate[0])
    with pytest.raises(CollectFailed, match="SSLError"):
        download(upstream, "https://d2.cloudfront.net/0.png")
    assert asked == []


def test_a_certificate_that_nobody_vouches_for_is_not_believed(serve, upstream):
    asked = serve(ANSWER)
    with pytest.raises(CollectFailed, match="SSLError"):
        download(upstream)
    assert asked == []


def test_a_picture_that_drips_through_tls_is_given_up(serve, certificate, upstream, monkeypatch):
    monkeypatch.setattr("orchestrator.upstream.CHUNK_SECONDS", 0.5)
    serve(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na")
    upstream._pictures.verify = str(certificate[0])
    with pytest.raises(CollectFailed, match="broke off"):
        download(upstream)
