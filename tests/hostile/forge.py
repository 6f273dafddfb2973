"""What an attacker sends. Nothing of it may be taken, whoever sends it; all of it follows from a seed."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.models import Secret
from orchestrator.signatures import Reference, sign_reference, sign_webhook
from webhooks.callbacks import MAX_BODY_BYTES

UNSIGNED, SIGNED = "useapi_frames", "freepik_runway"
SIGNED_ACCOUNT = "sig-1"
REPLAY = "replay"
OTHER_KEY = Secret("somebody-elses-key-0123456789-abcdef")
HOST = "Host: jobs.example.com"


@dataclass(frozen=True)
class Hostile:
    """Bytes for one connection. `last`: nothing can follow on it, and we stop sending after them."""

    kind: str
    data: bytes
    last: bool = False


@dataclass(frozen=True)
class Waiting:
    """An attempt whose generation is awaited, and what an attacker who saw a callback of it would know."""

    attempt: str
    account: str
    upstream_id: str
    reference: str


@dataclass(frozen=True)
class Spoils:
    """What the attacker is granted: genuine references (of a provider that does not sign), old deliveries."""

    waiting: list[Waiting]
    signed_reference: str
    delivered: list[bytes]  # whole requests of the signing provider, that were taken once


def post(path: str, body: bytes, *headers: str, length: str | None = None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", HOST, "Content-Type: application/json", *headers]
    lines += [f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def signed(reference: str, body: bytes, delivery: str, moment: float, key: bytes, *headers: str) -> bytes:
    timestamp = str(int(moment))
    return post(
        f"/callbacks/{SIGNED}/{reference}",
        body,
        f"webhook-id: {delivery}",
        f"webhook-timestamp: {timestamp}",
        f"webhook-signature: v1,{sign_webhook(delivery, timestamp, body, key)}",
        *headers,
    )


def success(upstream_id: str, reference: str) -> bytes:
    """What would settle an attempt, were it believed."""
    artifacts = [{"url": "https://evil.cloudfront.net/0.png"}]
    told = {"taskId": upstream_id, "status": "SUCCEEDED", "replyRef": reference, "artifacts": artifacts}
    return json.dumps(told).encode()


class Forger:
    """An endless row of hostile requests."""

    def __init__(self, dice: random.Random, spoils: Spoils, now: Callable[[], float]) -> None:
        self._dice, self._spoils, self._now = dice, spoils, now
        self._kinds: list[tuple[Callable[[], Hostile], int]] = [
            (self.noise, 10),
            (self.mutated, 20),
            (self.wrong_reference, 25),
            (self.wrong_signature, 12),
            (self.replayed, 8),
            (self.wrong_body, 8),
            (self.wrong_length, 6),
            (self.wrong_chunks, 5),
            (self.wrong_head, 10),
            (self.wrong_place, 6),
            (self.oversized, 1),
        ]

    def next(self) -> Hostile:
        (make,) = self._dice.choices([make for make, _ in self._kinds], [part for _, part in self._kinds])
        return make()

    # --- kinds -----------------------------------------------------------------------------------------

    def noise(self) -> Hostile:
        begin = self._dice.choice(
            [b"", b"\x16\x03\x01\x02", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"POST ", b"\r\n"]
        )
        return Hostile("random bytes", begin + self._dice.randbytes(self._dice.randint(1, 600)), last=True)

    def mutated(self) -> Hostile:
        """A forged callback with some bytes changed, left out, doubled or put in."""
        data = bytearray(self._forged())
        for _ in range(self._dice.randint(1, 12)):
            place, byte = self._dice.randrange(len(data)), self._dice.randrange(256)
            match self._dice.randrange(4):
                case 0:
                    data[place] = byte
                case 1:
                    del data[place]
                case 2:
                    data.insert(place, byte)
                case _:
                    data[place:place] = data[place : place + self._dice.randint(1, 40)]
        return Hostile("mutated bytes", bytes(data), last=True)

    def wrong_reference(self) -> Hostile:
        return Hostile("wrong reference", self._forged())

    def wrong_signature(self) -> Hostile:
        reference, now = self._spoils.signed_reference, self._now()
        body = json.dumps(
            {"task_id": self._word(), "status": "COMPLETED", "generated": ["https://e/"]}
        ).encode()
        genuine = self._dice.choice(self._spoils.delivered)
        head, _, _ = genuine.partition(b"\r\n\r\n")
        path = f"/callbacks/{SIGNED}/{reference}"
        forged = self._dice.choice(
            [
                post(path, body),
                signed(reference, body, self._word(), now, b"not-the-secret"),
                signed(reference, body, self._word(), now, b""),
                signed(
                    reference, body, self._word(), now + self._dice.choice([-1e6, 1e6]), b"not-the-secret"
                ),
                head.rpartition(b"Content-Length")[0]
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body,  # another body under a genuine signature
                post(path, body, "webhook-id: x", "webhook-timestamp: 0", "webhook-signature: v1,"),
                post(
                    path,
                    body,
                    "webhook-id: x",
                    f"webhook-timestamp: {now}",
                    "webhook-signature: " + "v1,x " * 800,
                ),
            ]
        )
        return Hostile("wrong signature", forged)

    def replayed(self) -> Hostile:
        return Hostile(REPLAY, self._dice.choice(self._spoils.delivered))

    def wrong_body(self) -> Hostile:
        """A genuine reference, with what is not about its attempt or cannot be read."""
        one = self._dice.choice(self._spoils.waiting)
        body = self._dice.choice(
            [
                success(self._word(), one.reference),
                success(one.upstream_id, self._word()),
                success(one.upstream_id, self._signed_elsewhere()),
                success(one.upstream_id, one.reference)[:-3],
                b"[" * self._dice.randint(1, 50_000),
                b'{"taskId": ' + b"9" * self._dice.randint(5_000, 50_000) + b"}",
                self._dice.randbytes(200),
                b"null",
                b"",
                b'{"taskId": "\\ud800", "status": "SUCCEEDED"}',
                b'{"taskId": {"$ne": null}, "status": "SUCCEEDED"}',
            ]
        )
        return Hostile("wrong body", post(f"/callbacks/{UNSIGNED}/{one.reference}", body))

    def wrong_length(self) -> Hostile:
        one = self._dice.choice(self._spoils.waiting)
        path, body = f"/callbacks/{UNSIGNED}/{one.reference}", success(one.upstream_id, one.reference)
        told = self._dice.choice(
            [str(len(body) + 40), "-1", "+5", "0x10", "1e3", "", "5, 5", "9" * 30, "\u0665", "1_0", "10 10"]
        )
        smuggled = post(path, body, length="0") + post("/callbacks/nobody/x", b"")
        doubled = post(path, body, f"Content-Length: {len(body) - 1}")
        both = post(path, b"0\r\n\r\n", "Transfer-Encoding: chunked")
        data = self._dice.choice([post(path, body, length=told)] * 4 + [smuggled, doubled, both])
        return Hostile("wrong length", data, last=True)

    def wrong_chunks(self) -> Hostile:
        one = self._dice.choice(self._spoils.waiting)
        coding = self._dice.choice(
            ["chunked"] * 6 + ["gzip, chunked", "chunked, chunked", "identity", "xchunked"]
        )
        line = f"POST /callbacks/{UNSIGNED}/{one.reference} HTTP/1.1"
        head = f"{line}\r\n{HOST}\r\nTransfer-Encoding: {coding}\r\n\r\n"
        body = success(one.upstream_id, one.reference)
        chunks = self._dice.choice(
            [
                b"zz\r\n" + body,
                b"-5\r\n" + body,
                b"0x5\r\n" + body,
                b"%x" % (len(body) + 9) + b"\r\n" + body,  # broken off
                b"%x" % (len(body) - 9) + b"\r\n" + body + b"\r\n0\r\n\r\n",  # goes on behind its end
                b"5;" + b"x" * 20_000 + b"\r\n",
                b"F" * 40 + b"\r\n" + body,
                b"0\r\n" + b"X: y\r\n" * 5_000 + b"\r\n",
                b"0\r\n\r\n",
            ]
        )
        return Hostile("wrong chunks", head.encode() + chunks, last=True)

    def wrong_head(self) -> Hostile:
        path, body = f"/callbacks/{UNSIGNED}/{self._reference()}", b"{}"
        line = f"POST {path} HTTP/1.1\r\n{HOST}\r\nContent-Length: 2\r\n"
        data = self._dice.choice(
            [
                post(path, body, *[f"X-{n}: y" for n in range(200)]),
                post(path, body, "X-Long: " + "y" * 20_000),
                post("/callbacks/" + "a/" * 4_000, body),
                post(f"{path}?{'q' * 5_000}", body),
                post(path, body, "no colon here"),
                post(path, body, "X y: z"),
                post(path, body, "X: a\0b"),
                post(path, body, "X: a\r\n folded"),
                post(path, body, "X: a\rb"),
                line.replace("\r\n", "\n").encode() + b"\n" + body,
                line.replace("HTTP/1.1", "HTTP/9.9").encode() + b"\r\n" + body,
                line.replace("HTTP/1.1", "").encode() + b"\r\n" + body,
                f"POST {path}\r\n\r\n".encode(),
                post(path, body, "Expect: 200-ok"),
                post(
                    path,
                    body,
                    "Upgrade: h2c",
                    "Connection: Upgrade, HTTP2-Settings",
                    "HTTP2-Settings: AAMAAABk",
                ),
                post(
                    path,
                    body,
                    "X-Forwarded-For: 127.0.0.1",
                    "X-Forwarded-Proto: https",
                    "Forwarded: for=127.0.0.1",
                ),
                post(path, body, "Script-Name: /x", "Path_Info: /healthz", "X-Original-URL: /readyz"),
                post(path, body, f"Cookie: {'c=d; ' * 500}"),
            ]
        )
        return Hostile("wrong head", data, last=True)

    def wrong_place(self) -> Hostile:
        one = self._dice.choice(self._spoils.waiting)
        path, body = f"/callbacks/{UNSIGNED}/{one.reference}", success(one.upstream_id, one.reference)
        method = self._dice.choice(
            ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW", "post"]
        )
        places = [
            *(f"/callbacks//{UNSIGNED}/{one.reference}", f"{path}/"),
            *(f"/callbacks/{SIGNED}/{one.reference}", f"/callbacks/nobody/{one.reference}", f"{path}%00"),
            *(f"/callbacks/../callbacks/{UNSIGNED}/{one.reference}", "/", "/callbacks", "/.env", "/metrics"),
            *("/console", "/static/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/healthz", f"{path};x=y"),
        ]
        data = self._dice.choice(
            [post(self._dice.choice(places), body), post(path, body).replace(b"POST", method.encode(), 1)]
        )
        return Hostile("wrong place", data, last=True)

    def oversized(self) -> Hostile:
        one = self._dice.choice(self._spoils.waiting)
        path = f"/callbacks/{UNSIGNED}/{self._dice.choice([one.reference, self._reference()])}"
        body = success(one.upstream_id, one.reference).ljust(MAX_BODY_BYTES + self._dice.randint(1, 100_000))
        chunked = (
            f"POST {path} HTTP/1.1\r\n{HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode()
        )
        return Hostile(
            "oversized", self._dice.choice([post(path, body), chunked + body + b"\r\n0\r\n\r\n"]), last=True
        )

    # --- parts -----------------------------------------------------------------------------------------

    def _forged(self) -> bytes:
        reference = self._reference()
        provider = self._dice.choice([UNSIGNED, SIGNED])
        return post(f"/callbacks/{provider}/{reference}", success(self._word(), reference))

    def _reference(self) -> str:
        genuine = self._dice.choice(self._spoils.waiting).reference
        payload, _, mac = genuine.partition(".")
        place = self._dice.randrange(len(genuine))
        letter = "A" if genuine[place] != "A" else "B"
        return self._dice.choice(
            [
                self._signed_elsewhere(),
                genuine[:place] + letter + genuine[place + 1 :],
                genuine[:-1],
                genuine + "=",
                payload,
                f"{payload}.",
                f".{mac}",
                f"{base64.urlsafe_b64encode(self._word().encode()).decode().rstrip('=')}.{mac}",
                self._word(),
                "%00" * self._dice.randint(1, 100),
                "%F0%9F%A6%8A." + mac,
                "A" * self._dice.choice([511, 512, 513, 3_000]),
            ]
        )

    def _signed_elsewhere(self) -> str:
        one = self._dice.choice(self._spoils.waiting)
        return sign_reference(UNSIGNED, Reference(one.attempt, one.account), [OTHER_KEY])

    def _word(self) -> str:
        return self._dice.randbytes(12).hex()
