"""What gunicorn runs: `gunicorn webhooks.wsgi:app`."""

from __future__ import annotations

import logging
import sys

from orchestrator.errors import ConfigurationError, StoreUnavailable
from orchestrator.start import PATIENCE_SECONDS, started
from webhooks import create_app

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
logging.getLogger("urllib3").setLevel(logging.WARNING)
try:
    app = create_app(started(PATIENCE_SECONDS).flow)
except (ConfigurationError, StoreUnavailable) as error:
    print(f"orchestrator: {error}", file=sys.stderr)
    raise SystemExit(3) from None  # gunicorn: APP_LOAD_ERROR is 4, WORKER_BOOT_ERROR 3: both end the master
