"""`python -m webhooks.api`: the OpenAPI document, on standard output."""

from __future__ import annotations

import json

from webhooks.api.app import document

print(json.dumps(document(), indent=2))
