"""What gunicorn runs: `gunicorn -c python:webhooks.gunicorn_conf`."""

from __future__ import annotations

import logging
import sys

from orchestrator.errors import ConfigurationError, StoreUnavailable
from orchestrator.start import PATIENCE_SECONDS, started
from webhooks.app import create_app
from webhooks.logs import Redacting, Sparing

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
logging.getLogger("urllib3").setLevel(logging.WARNING)
for handler in logging.getLogger().handlers:
    handler.filters[:] = [Redacting(), Sparing()]
try:
    app = create_app(started(PATIENCE_SECONDS).flow)
except (ConfigurationError, StoreUnavailable) as error:
    print(f"orchestrator: {error}", file=sys.stderr)
    raise SystemExit(3) from None  # gunicorn: APP_LOAD_ERROR is 4, WORKER_BOOT_ERROR 3: both end the master
