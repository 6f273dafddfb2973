"""requests without what we do not use of it: a call goes straight to the pool of connections of its host."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

CONNECT_SECONDS = 5.0
POOL_SIZE = 128  # connections kept per host
NOTHING: Mapping[str, str] = {}

_reading = threading.Lock()


class Session(requests.Session):
    """Connections of these pools, kept for the next call. Thread-safe."""

    verify: str

    def __init__(self, pools: Mapping[str, type[HTTPConnectionPool]], **headers: str) -> None:
        super().__init__()
        self.verify = DEFAULT_CA_BUNDLE_PATH  # whose certificates are believed
        self.headers.update({"User-Agent": "orchestrator", **headers})
        self.adapters.clear()  # a scheme without a pool of ours cannot be called
        for scheme in pools:
            self.mount(f"{scheme}://", _Adapter(pools))

    def call(
        self,
        seconds: float,
        method: str,
        url: str,
        headers: Mapping[str, str] = NOTHING,
        *,
        query: Mapping[str, str] = NOTHING,
        json: Any = None,
        data: bytes | None = None,
    ) -> requests.Response:
        """The beginning of an answer, straight from the adapter.

        `Session.send` would follow redirects, keep cookies, and take proxies and logins from the environment.
        """
        request = requests.PreparedRequest()
        request.prepare_method(method)
        request.prepare_url(url, query or None)
        request.prepare_headers({**self.headers, **headers})
        request.prepare_body(data, None, json)
        request.prepare_auth(None)  # of a base_url that has one
        timeout = (CONNECT_SECONDS, seconds)
        return self.get_adapter(url).send(request, stream=True, timeout=timeout, verify=self.verify)


class _Adapter(HTTPAdapter):
    def __init__(self, pools: Mapping[str, type[HTTPConnectionPool]]) -> None:
        self._pools = pools
        super().__init__(pool_connections=POOL_SIZE, pool_maxsize=POOL_SIZE, max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        host, tls = super().build_connection_pool_key_attributes(request, True, cert)
        if host["scheme"] == "https":
            tls["ssl_context"] = _trusting(verify)
        return host, tls

    def request_url(self, request: requests.PreparedRequest, proxies: object) -> str:
        """No proxy is ever asked, and to look for one costs a URL's parsing."""
        return request.path_url

    def cert_verify(self, *_: object) -> None:
        """Nothing is left to name: each new connection would read the authorities again."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Without its cookies: one session serves every account, and one of theirs must not reach another."""
        response = requests.Response()
        response.status_code, response.raw = resp.status, resp
        response.headers = resp.headers  # a mapping of the same behaviour
        return response


def _trusting(authorities: str) -> ssl.SSLContext:
    """What verifies certificates. Read once: it takes ten times as long as the rest of a new connection."""
    with _reading:
        return _read(authorities)


@cache
def _read(authorities: str) -> ssl.SSLContext:
    context = create_urllib3_context()
    context.load_verify_locations(authorities)
    return context
