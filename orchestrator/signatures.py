"""Our own signed reference, which names one attempt and cannot be made without our key; Standard Webhooks.

Pure: no clock, no store. Keys are rotated by putting the new one first: the first signs, all verify.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.errors import BadReference, BadSignature, Stale
from orchestrator.models import Secret

MAC_BYTES = 20
MAX_REFERENCE_CHARACTERS = 512  # useapi.net keeps at most 1,024 of a replyRef

# https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md (read 2026-11)
WINDOW_SECONDS = 300.0  # by how much a delivery may be older, or newer, than our clock
MAX_ID_CHARACTERS = 256
MAX_SIGNATURES_CHARACTERS = 4096  # some eighty signatures; two are usual while a secret is rotated
TIMESTAMP = re.compile(r"[0-9]{1,12}")
SIGNATURE = re.compile(r"v[0-9]{1,3},([A-Za-z0-9+/]{43}=)")
BASE64_PREFIX = "whsec_"


@dataclass(frozen=True)
class Reference:
    """Whom a callback is about."""

    attempt_id: str
    account: str


def sign_reference(provider: str, reference: Reference, keys: Sequence[Secret]) -> str:
    """A URL-safe text that `read_reference` accepts for this provider only."""
    payload = f"{reference.attempt_id}\n{reference.account}".encode()
    return f"{_encode(payload)}.{_encode(_mac(provider, payload, keys[0]))}"


def read_reference(provider: str, text: str, keys: Sequence[Secret]) -> Reference:
    """The reference that we signed.

    Raises: BadReference, always the same one, whatever is wrong. Takes the same time for every wrong MAC.
    """
    if len(text) > MAX_REFERENCE_CHARACTERS:
        raise BadReference("not a reference of ours")
    encoded_payload, _, encoded_mac = text.partition(".")
    try:
        payload, mac = _decode(encoded_payload), _decode(encoded_mac)
        genuine = [hmac.compare_digest(mac, _mac(provider, payload, key)) for key in keys]
        if not any(genuine):
            raise BadReference("not a reference of ours")
        attempt_id, account = payload.decode().split("\n")
    except (binascii.Error, ValueError) as error:
        raise BadReference("not a reference of ours") from error
    return Reference(attempt_id, account)


def webhook_keys(secret: Secret, base64_encoded: bool) -> list[bytes]:
    """The keys in a comma list of secrets: their UTF-8 bytes, or what they decode to (`whsec_` or not).

    Raises: BadSignature where there is none, or one of them is no key: an empty key would verify anybody.
    """
    texts = [text.strip() for text in secret.reveal().split(",") if text.strip()]
    try:
        keys = [_decode_key(text) if base64_encoded else text.encode() for text in texts]
    except ValueError as error:
        raise BadSignature("a signing secret of this account is not base64") from error
    if not keys or not all(keys):
        raise BadSignature("a signing secret of this account is empty")
    return keys


def sign_webhook(delivery_id: str, timestamp: str, raw_body: bytes, key: bytes) -> str:
    """The signature of a delivery, without its version: base64 of the HMAC-SHA256."""
    message = b".".join((delivery_id.encode(), timestamp.encode(), raw_body))
    return base64.b64encode(hmac.digest(key, message, "sha256")).decode()


def webhook_headers(
    delivery_id: str, timestamp: int, raw_body: bytes, keys: Sequence[bytes]
) -> dict[str, str]:
    """What a delivery is signed with, by each of the keys; `timestamp` in unix seconds."""
    signatures = [f"v1,{sign_webhook(delivery_id, str(timestamp), raw_body, key)}" for key in keys]
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def verify_webhook(headers: Mapping[str, str], raw_body: bytes, keys: Sequence[bytes], now: float) -> None:
    """Accept a delivery that any of our keys signed within the time window; `now` in unix seconds.

    The version of a signature says which generation of the secret made it, so any of our keys may fit any.
    Raises: BadSignature, always the same one, whatever is wrong or missing; Stale where it is genuine.
    """
    delivery_id, timestamp = webhook_id(headers), headers.get("webhook-timestamp") or ""
    listed = headers.get("webhook-signature") or ""
    if delivery_id is None or not TIMESTAMP.fullmatch(timestamp) or len(listed) > MAX_SIGNATURES_CHARACTERS:
        raise BadSignature("not signed with a secret of this account")
    given = [found[1] for found in map(SIGNATURE.fullmatch, listed.split(" ")) if found]
    expected = [sign_webhook(delivery_id, timestamp, raw_body, key) for key in keys]
    genuine = [hmac.compare_digest(theirs, ours) for theirs in given for ours in expected]
    if not any(genuine):
        raise BadSignature("not signed with a secret of this account")
    if abs(now - int(timestamp)) > WINDOW_SECONDS:
        raise Stale(f"signed more than {WINDOW_SECONDS:.0f} seconds before or after now")


def webhook_id(headers: Mapping[str, str]) -> str | None:
    """What the sender calls this delivery, the same when it is sent again; None where it is no such id."""
    delivery_id = headers.get("webhook-id") or ""
    usable = 0 < len(delivery_id) <= MAX_ID_CHARACTERS and delivery_id.isascii() and delivery_id.isprintable()
    return delivery_id if usable else None


def _decode_key(text: str) -> bytes:
    """Raises: ValueError. Padding may be missing."""
    text = text.removeprefix(BASE64_PREFIX)
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _mac(provider: str, payload: bytes, key: Secret) -> bytes:
    message = b"callback reference 1\n" + provider.encode() + b"\n" + payload
    return hmac.digest(key.reveal().encode(), message, "sha256")[:MAC_BYTES]


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Raises: ValueError. Accepts exactly one spelling of the same bytes."""
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(raw) != text:
        raise ValueError("not the canonical spelling")
    return raw
