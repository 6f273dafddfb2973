"""The demo's accounts file: every provider, at the simulator."""

from __future__ import annotations

FRAMES_ACCOUNTS = ("studio-1", "studio-2")
FRAMES_SLOTS = 5

FRAMES = """
[[accounts]]
provider = "useapi_frames"
name = "{name}"
token = "env:DEMO_TOKEN"
email = "{name}@example.com"
max_jobs = {slots}
base_url = "{simulator}/v1/runwayml"
poll_seconds = 2
net_seconds = 8
"""
OTHERS = """
[[accounts]]
provider = "freepik_runway"
name = "freepik"
token = "env:DEMO_TOKEN"
signing_secret = "env:DEMO_SIGNING_SECRET"
max_jobs = 2
base_url = "{simulator}"
net_seconds = 8

[[accounts]]
provider = "runway"
name = "runway"
token = "env:DEMO_TOKEN"
max_jobs = 2
queue_ahead = 1
base_url = "{simulator}"
poll_seconds = 1
min_poll_seconds = 0.5

[[accounts]]
provider = "useapi_preview"
name = "preview"
token = "env:DEMO_TOKEN"
email = "preview@example.com"
allow_retired = true
max_jobs = 2
base_url = "{simulator}/v1/runwayml"

[[accounts]]
provider = "webhook_json"
name = "atelier"
token = "env:DEMO_TOKEN"
max_jobs = 2
base_url = "{simulator}/v1/generic"
net_seconds = 8
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
"""


def accounts_file(simulator: str) -> str:
    """TOML; `simulator`: its base URL."""
    frames = [FRAMES.format(name=name, slots=FRAMES_SLOTS, simulator=simulator) for name in FRAMES_ACCOUNTS]
    return "".join([*frames, OTHERS.format(simulator=simulator)])
