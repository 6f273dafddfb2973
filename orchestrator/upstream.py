"""The only HTTP client: requests to providers, downloads of artifacts, and what their failures mean."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ssl import SSLCertVerificationError
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import LocationValueError, NewConnectionError

from orchestrator.addresses import is_own, may_fetch
from orchestrator.connections import ANYWHERE, PUBLIC, PUBLIC_OR_PLAIN, deadline
from orchestrator.errors import BadPicture, Broken, CollectFailed, NotPublic, Uncertain, Unreachable
from orchestrator.models import Reply, Request
from orchestrator.sessions import Session

DOWNLOAD_SECONDS = 600.0  # one picture in all
CHUNK_SECONDS = 30.0  # so 2 KiB a second at least
MAX_REDIRECTS = 3  # of a picture; of a request none
REDIRECTS = (301, 302, 303, 307, 308)
MAX_REPLY_BYTES = 8 * 2**20
MAX_ARTIFACT_BYTES = 64 * 2**20
CHUNK_BYTES = 64 * 2**10
CANNOT_BE_SENT = (  # our own settings are wrong, or what was asked for
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidJSONError,
    LocationValueError,
    UnicodeEncodeError,
)
MAX_ANSWER_BYTES = 16 * 2**10  # read of what a notice is answered with
TEXT_CHARACTERS = 500


class Upstream:
    """A pool of connections per host. Thread-safe. It never repeats a request, and asks no proxy:

    one would look up names by itself, and so undo what is checked here of the addresses of pictures.
    """

    def __init__(self) -> None:
        self._session = Session(ANYWHERE)
        self._pictures = Session(PUBLIC, **{"Accept-Encoding": "identity"})
        self._notices = Session(PUBLIC_OR_PLAIN)

    def close(self) -> None:
        self._session.close()
        self._pictures.close()
        self._notices.close()

    def send(self, request: Request, timeout_seconds: float) -> Reply:
        """The provider's answer, whatever its status. The time is for all of it, up to the last byte.

        Raises: Unreachable where nothing can have arrived; Uncertain where it may have.
        """
        try:
            with (
                deadline(timeout_seconds),
                self._session.call(
                    timeout_seconds,
                    request.method,
                    request.url,
                    request.headers,
                    query=request.query,
                    json=request.json,
                ) as response,
            ):
                content = response.raw.read(MAX_REPLY_BYTES + 1, decode_content=True)
        except Exception as error:
            raise _translated(error) from None
        if len(content) > MAX_REPLY_BYTES:
            raise Uncertain(
                f"the answer is larger than {MAX_REPLY_BYTES} bytes", http_status=response.status_code
            )
        return _reply(response, content)

    @contextmanager
    def download(self, url: str, hosts: Sequence[str], base_url: str) -> Iterator[Iterator[bytes]]:
        """The chunks of an artifact. `hosts`: where it may come from, as `may_fetch` takes them.

        Every redirect is checked as the URL itself. Raises: CollectFailed.
        """
        with deadline(DOWNLOAD_SECONDS):
            for _ in range(MAX_REDIRECTS + 1):
                with self._picture(url, hosts, base_url) as response:
                    if response.status_code == 200:
                        yield _capped(response)
                        return
                    elsewhere = response.headers.get("Location", "")
                    if response.status_code not in REDIRECTS or not elsewhere:
                        raise CollectFailed(
                            f"fetching the picture was answered with {response.status_code}",
                            http_status=response.status_code,
                        )
                url = _joined(url, elsewhere)
        raise CollectFailed(f"the picture is behind more than {MAX_REDIRECTS} redirects")

    def tell(
        self, url: str, headers: Mapping[str, str], body: bytes, private: bool, timeout_seconds: float
    ) -> tuple[int, str | None]:
        """POST a notice. Gives the status, and the Retry-After header; the rest of the answer is not read.

        `private`: its host need not be public. Raises: NotPublic; Unreachable where there is no answer.
        """
        session = self._session if private else self._notices
        try:
            with (
                deadline(timeout_seconds),
                session.call(timeout_seconds, "POST", url, headers, data=body) as response,
            ):
                if len(response.raw.read(MAX_ANSWER_BYTES)) < MAX_ANSWER_BYTES:
                    response.raw.drain_conn()  # so that the connection can be used again
                return response.status_code, response.headers.get("Retry-After")
        except NotPublic:
            raise
        except Exception as error:  # whatever a stranger's server can make a library raise
            raise Unreachable(f"no answer ({type(error).__name__})") from None

    def _picture(self, url: str, hosts: Sequence[str], base_url: str) -> requests.Response:
        if not may_fetch(url, hosts, base_url):
            raise BadPicture(f"the host {_host(url)!r} is not one the provider serves pictures from")
        session = self._session if is_own(url, base_url) else self._pictures
        try:
            with deadline(CHUNK_SECONDS):
                return session.call(CHUNK_SECONDS, "GET", url)
        except NotPublic as error:
            raise CollectFailed(str(error)) from None
        except Exception as error:  # whatever a stranger's server can make a library raise
            raise CollectFailed(f"fetching the picture failed ({type(error).__name__})") from None


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return ""


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _announced_bytes(response: requests.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text.lstrip("0")[:20] or "0") if text.isdecimal() else None


def _capped(response: requests.Response) -> Iterator[bytes]:
    announced = _announced_bytes(response)
    if announced and announced > MAX_ARTIFACT_BYTES:
        raise _too_large()
    size = 0
    due_size, due_at = 0, 0.0  # a server may send chunks of a byte: only a whole one of ours buys time
    while True:
        if size >= due_size:
            due_size, due_at = size + CHUNK_BYTES, time.monotonic() + CHUNK_SECONDS
        try:
            with deadline(due_at - time.monotonic()):
                chunk = response.raw.read(CHUNK_BYTES, decode_content=True)
        except Exception as error:
            raise CollectFailed(f"fetching the picture broke off ({type(error).__name__})") from None
        if not chunk:
            break
        size += len(chunk)
        if size > MAX_ARTIFACT_BYTES:
            raise _too_large()
        yield chunk
    if announced is not None and "Content-Encoding" not in response.headers and size != announced:
        raise CollectFailed(f"only {size} of {announced} bytes of the picture arrived")


def _too_large() -> BadPicture:
    return BadPicture(f"the picture is larger than {MAX_ARTIFACT_BYTES} bytes")


def _translated(error: Exception) -> Broken | Unreachable | Uncertain:
    """What a failed exchange means. A connection that was never made cannot have carried a request."""
    reason = _reason(error) if isinstance(error, requests.ConnectionError) else None
    # The handshake comes before the request; any other TLS trouble may come after it.
    wrong_host = any(isinstance(each, SSLCertVerificationError) for each in getattr(reason, "args", ()))
    if isinstance(error, CANNOT_BE_SENT):
        return Broken(f"the request cannot be sent: is the token or base_url wrong? ({type(error).__name__})")
    if isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError) or wrong_host:
        return Unreachable(f"no connection ({type(error).__name__})")
    return Uncertain(f"no answer ({type(error).__name__})")


def _reason(error: requests.ConnectionError) -> object:
    inner = error.args[0] if error.args else None
    return getattr(inner, "reason", inner)


def _reply(response: requests.Response, content: bytes) -> Reply:
    try:
        body = json.loads(content.decode(json.detect_encoding(content), "replace"))
    except (ValueError, RecursionError):
        body = None
    headers = {name.lower(): value for name, value in response.raw.headers.itermerged()}
    text = content[: 4 * TEXT_CHARACTERS].decode("utf-8", "replace")[:TEXT_CHARACTERS]
    return Reply(response.status_code, headers, body, text)
