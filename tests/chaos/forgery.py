"""Callbacks that nobody at a provider sent. What each kind is made of; pure."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.models import Attempt, Secret
from orchestrator.signatures import Reference, sign_reference, sign_webhook
from tests.chaos.places import PLACES
from tests.chaos.plan import OUTSIDE, SIGNING

FORGED_PICTURE = "forged"  # is in the URL of every picture that a forged callback tells of
CALLING = ("useapi_frames", "webhook_json", *SIGNING)
REFUSED = (400, 401, 404)
STRANGER = Secret("a-stranger-who-has-read-all-of-our-code")


@dataclass(frozen=True)
class Forgery:
    """What is sent to `/callbacks/<provider>/<reference>`."""

    kind: str
    provider: str
    reference: str
    headers: Mapping[str, str]
    body: bytes


def forge(kind: str, attempt: Attempt, keys: Sequence[Secret], url: str, now: float) -> Forgery | None:
    """A forged success of a real attempt, its picture at `url`; None: it has to wait for the upstream id.

    A kind that makes no sense at the attempt's provider becomes one that does everywhere. Where nothing but
    the reference protects the callbacks, whoever has it can tell of this attempt: only another generation's
    id is refused.
    """
    provider, upstream_id = attempt.provider, attempt.upstream_id or ""
    if kind not in OUTSIDE and (provider not in CALLING or (attempt.state == "closed" and not upstream_id)):
        kind = OUTSIDE[len(kind) % len(OUTSIDE)]
    if kind not in OUTSIDE:
        if not upstream_id:
            return None
        signs, signed_kinds = provider in SIGNING, ("unsigned", "signed by a stranger")
        if signs and kind in ("another generation", "no JSON"):
            kind = "replayed with another body"
        if not signs and kind in (*signed_kinds, "replayed with another body"):
            kind = "another generation"
    known = Reference(attempt.id, attempt.account)
    genuine = sign_reference(provider, known, keys)
    reference = genuine
    if kind == "altered reference":
        reference = genuine[:-2] + ("A" if genuine[-2] != "A" else "B") + genuine[-1]
    elif kind == "stranger's reference":
        reference = sign_reference(provider, known, [STRANGER])
    elif kind == "another provider's reference":
        reference = sign_reference(f"not-{provider}", known, keys)
    told_id = str(uuid.uuid4()) if kind == "another generation" or not upstream_id else upstream_id
    body = b"{" if kind == "no JSON" else _success(provider, told_id, reference, url)
    headers = {"Content-Type": "application/json"}
    if provider in SIGNING and kind != "unsigned":
        headers |= _signed(kind, attempt, body, now)
    return Forgery(kind, "nobody" if kind == "unknown provider" else provider, reference, headers, body)


def _signed(kind: str, attempt: Attempt, body: bytes, now: float) -> Mapping[str, str]:
    secret = next(place.secret for place in PLACES if place.name == attempt.account)
    key = STRANGER.reveal() if kind == "signed by a stranger" else secret
    signed_body = b'{"status": "IN_PROGRESS"}' if kind == "replayed with another body" else body
    delivery_id, timestamp = str(uuid.uuid4()), str(int(now))
    signature = sign_webhook(delivery_id, timestamp, signed_body, key.encode())
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    return dict(zip(names, (delivery_id, timestamp, f"v1,{signature}"), strict=True))


def _success(provider: str, upstream_id: str, reference: str, url: str) -> bytes:
    if provider in SIGNING:
        body: object = {"task_id": upstream_id, "status": "COMPLETED", "generated": [url]}
    elif provider == "webhook_json":
        body = {"job": {"id": upstream_id, "state": "done", "images": [{"url": url}]}}
    else:
        shown = {"taskId": upstream_id, "status": "SUCCEEDED", "artifacts": [{"url": url}]}
        body = {**shown, "replyRef": reference}
    return json.dumps(body).encode()
