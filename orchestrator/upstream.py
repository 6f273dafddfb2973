"""The only HTTP client: requests to providers, downloads of artifacts, and what their failures mean."""

from __future__ import annotations

import http.cookiejar
import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ssl import SSLCertVerificationError
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import LocationValueError, NewConnectionError

from orchestrator.errors import Broken, CollectFailed, Uncertain, Unreachable
from orchestrator.models import Reply, Request

CONNECT_SECONDS = 5.0
DOWNLOAD_SECONDS = 60.0  # between two chunks
POOL_SIZE = 128  # connections kept per host
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
TEXT_CHARACTERS = 500


class Upstream:
    """A pool of connections per host. Thread-safe. It never repeats a request and follows no redirect."""

    def __init__(self) -> None:
        self._session = requests.Session()
        self._session.trust_env = False
        # One session serves every account: a cookie of one must not reach another.
        self._session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers["User-Agent"] = "orchestrator"
        adapter = HTTPAdapter(pool_connections=POOL_SIZE, pool_maxsize=POOL_SIZE, max_retries=0)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def close(self) -> None:
        self._session.close()

    def send(self, request: Request, timeout_seconds: float) -> Reply:
        """The provider's answer, whatever its status.

        Raises: Unreachable where nothing can have arrived; Uncertain where it may have.
        """
        try:
            with self._session.request(
                request.method,
                request.url,
                headers=dict(request.headers),
                params=dict(request.query),
                json=request.json,
                timeout=(CONNECT_SECONDS, timeout_seconds),
                allow_redirects=False,
                stream=True,
            ) as response:
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
        """The chunks of an artifact. `hosts`: suffixes it may come from, beside the host of `base_url`.

        Raises: CollectFailed.
        """
        if not may_fetch(url, hosts, base_url):
            raise CollectFailed(
                f"the host {urlsplit(url).hostname!r} is not one the provider serves pictures from"
            )
        try:
            with self._session.get(
                url, timeout=(CONNECT_SECONDS, DOWNLOAD_SECONDS), allow_redirects=False, stream=True
            ) as response:
                if response.status_code != 200:
                    raise CollectFailed(
                        f"fetching the picture was answered with {response.status_code}",
                        http_status=response.status_code,
                    )
                yield _capped(response)
        except (requests.RequestException, LocationValueError) as error:
            raise CollectFailed(f"fetching the picture failed ({type(error).__name__})") from None


def may_fetch(url: str, hosts: Sequence[str], base_url: str) -> bool:
    """Whether an artifact URL may be fetched: the provider's hosts over HTTPS, or the account's own host."""
    if "\\" in url:  # urlsplit takes it for a letter of the host, urllib3 for the host's end
        return False
    try:
        parts, base = urlsplit(url), urlsplit(base_url)
        port = parts.port
    except ValueError:
        return False
    if (parts.scheme, parts.netloc) == (base.scheme, base.netloc):
        return True
    host = parts.hostname or ""
    if parts.scheme != "https" or parts.username or port not in (None, 443) or _is_address(host):
        return False
    return any(host.endswith(suffix) if suffix.startswith(".") else host == suffix for suffix in hosts)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _capped(response: requests.Response) -> Iterator[bytes]:
    size = 0
    try:
        for chunk in response.iter_content(CHUNK_BYTES):
            size += len(chunk)
            if size > MAX_ARTIFACT_BYTES:
                raise CollectFailed(f"the picture is larger than {MAX_ARTIFACT_BYTES} bytes")
            yield chunk
    except requests.RequestException as error:
        raise CollectFailed(f"fetching the picture broke off ({type(error).__name__})") from None
    expected = response.headers.get("Content-Length")
    if expected and "Content-Encoding" not in response.headers and size != int(expected):
        raise CollectFailed(f"only {size} of {expected} bytes of the picture arrived")


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
    response._content = content
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    headers = {name.lower(): value for name, value in response.headers.items()}
    text = content[: 4 * TEXT_CHARACTERS].decode("utf-8", "replace")[:TEXT_CHARACTERS]
    return Reply(response.status_code, headers, body, text)
