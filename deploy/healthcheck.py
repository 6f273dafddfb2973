"""Is this container well? `python -IS deploy/healthcheck.py heartbeat`, or `… http PORT PATH`.

Exits with 0 or 1 and says why. It imports next to nothing: it is run every few seconds in every container.
"""

import os
import socket
import sys
import time

OLDEST_SECONDS = 45  # a worker ends itself when it was silent for so long
PATIENCE_SECONDS = 4


def heartbeat():
    path = os.environ["ORCHESTRATOR_HEARTBEAT"]
    age = time.time() - os.stat(path).st_mtime
    return age < OLDEST_SECONDS, f"the last heartbeat was {age:.0f} s ago"


def http(port, path):
    with socket.create_connection(("127.0.0.1", int(port)), PATIENCE_SECONDS) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        answer = connection.recv(4096).decode("latin-1")
    return answer.split(" ")[1:2] == ["200"], answer.splitlines()[0] if answer else "no answer"


def main():
    kind, *arguments = sys.argv[1:]
    try:
        well, told = {"heartbeat": heartbeat, "http": http}[kind](*arguments)
    except OSError as error:
        well, told = False, error.strerror or str(error)
    print(told)
    raise SystemExit(not well)


main()
