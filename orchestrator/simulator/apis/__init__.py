"""One file per provider API; adding one is a file here and a line in `server.py`."""
