"""The accounts of a run: every provider, several accounts each, all at the simulator."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

TIMEOUT_SECONDS = 2
HEADS = """
[[accounts]]
provider = "{place.provider}"
name = "{place.name}"
token = "env:{place.token_name}"
max_jobs = {place.slots}
base_url = "{simulator}{base}"
when_uncertain = "{place.when_uncertain}"
timeout_seconds = {timeout}
deadline_seconds = {deadline}
poll_seconds = 1
min_poll_seconds = 0.5
net_seconds = 4
"""
BASES = {
    "useapi_frames": "/v1/runwayml",
    "useapi_preview": "/v1/runwayml",
    "freepik_runway": "",
    "runway": "",
    "webhook_json": "/v1/generic",
}
MORE = {
    "useapi_frames": 'email = "{place.name}@example.com"\n',
    "useapi_preview": 'email = "{place.name}@example.com"\nallow_retired = true\n',
    "freepik_runway": 'signing_secret = "env:{place.secret_name}"\n',
    "runway": "queue_ahead = {place.ahead}\n",
    "webhook_json": """\
submit_path = "/jobs"
poll_path = "/jobs/{{id}}"
headers = {{ X-Api-Key = "{{token}}" }}
body = {{ text = "{{prompt}}", notify = "{{callback_url}}" }}
parameters_at = "options"
id_at = "job.id"
status_at = "job.state"
outputs_at = "job.images[*].url"
error_at = "job.problem|problem"
pending = ["waiting", "drawing"]
succeeded = ["done"]
failed = ["broken"]
""",
}


@dataclass(frozen=True)
class Place:
    """One account. `ahead`: jobs beyond `slots` that may wait in the provider's own queue."""

    provider: str
    name: str
    slots: int
    ahead: int = 0
    when_uncertain: str = "resubmit"

    @property
    def token_name(self) -> str:
        return f"CHAOS_TOKEN_{self.name.replace('-', '_').upper()}"

    @property
    def secret_name(self) -> str:
        return self.token_name.replace("TOKEN", "SECRET")

    @property
    def token(self) -> str:
        return f"chaos-{self.name}"

    @property
    def secret(self) -> str:
        """What signs its callbacks, where the provider signs."""
        return f"a-signing-secret-of-{self.name}"

    @property
    def seen_as(self) -> str:
        """What the simulator calls this account."""
        if self.provider.startswith("useapi"):
            return f"{self.name}@example.com"
        if self.provider == "webhook_json":
            return f"key-{hashlib.sha256(self.token.encode()).hexdigest()[:8]}"
        return self.token


PLACES = (
    Place("useapi_frames", "studio-1", 5),
    Place("useapi_frames", "studio-2", 3),
    Place("useapi_frames", "studio-3", 2),
    Place("freepik_runway", "freepik-1", 4),
    Place("freepik_runway", "freepik-2", 3, when_uncertain="hold"),
    Place("runway", "runway-1", 4, ahead=2),
    Place("runway", "runway-2", 3, when_uncertain="hold"),
    Place("useapi_preview", "preview-1", 4),
    Place("useapi_preview", "preview-2", 2),
    Place("webhook_json", "atelier-1", 4),
    Place("webhook_json", "atelier-2", 3, when_uncertain="hold"),
)
ALL_SLOTS = sum(place.slots for place in PLACES)


def accounts_file(simulator: str, deadline_seconds: float, preview_seconds: float) -> str:
    """TOML; `simulator`: its base URL; `preview_seconds`: how long the synchronous answer is waited for."""
    return "".join(
        (HEADS + MORE[place.provider]).format(
            place=place,
            simulator=simulator,
            base=BASES[place.provider],
            timeout=preview_seconds if place.provider == "useapi_preview" else TIMEOUT_SECONDS,
            deadline=deadline_seconds,
        )
        for place in PLACES
    )


def secrets() -> dict[str, str]:
    """The environment that the accounts file refers to. None of these opens anything."""
    tokens = {place.token_name: place.token for place in PLACES}
    return tokens | {place.secret_name: place.secret for place in PLACES}


def simulator_arguments(seed: int, seconds: str) -> Sequence[str]:
    """The simulator enforces only what useapi and Runway do: elsewhere, too many at once would be seen."""
    arguments = ["--seed", str(seed), "--seconds", seconds, "--max-jobs", "1000"]
    for place in PLACES:
        if place.provider == "freepik_runway":
            arguments += ["--freepik-secret", f"{place.token}={place.secret}"]
        if place.provider == "runway":
            arguments += ["--account", f"{place.token}={place.slots}"]
    return arguments
