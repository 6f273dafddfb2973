"""`python -m bench.peers MODULE`: the client of a peer, its tasks under the names the worker knows."""

from __future__ import annotations

import sys
from importlib import import_module

if __name__ == "__main__":
    import_module(sys.argv[1]).main()
