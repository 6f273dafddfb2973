"""Our own signed reference: it names one attempt at one account and cannot be made without our key.

Pure: no clock, no store. Keys are rotated by putting the new one first: the first signs, all verify.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import BadReference
from orchestrator.models import Secret

MAC_BYTES = 20
MAX_REFERENCE_CHARACTERS = 512  # useapi.net keeps at most 1,024 of a replyRef


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


def _mac(provider: str, payload: bytes, key: Secret) -> bytes:
    message = b"callback reference 1\n" + provider.encode() + b"\n" + payload
    return hmac.new(key.reveal().encode(), message, hashlib.sha256).digest()[:MAC_BYTES]


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Raises: ValueError. Accepts exactly one spelling of the same bytes."""
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(raw) != text:
        raise ValueError("not the canonical spelling")
    return raw
