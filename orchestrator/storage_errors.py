"""What an error of a place where pictures are kept means, in words that a person can act on. Pure.

Each of fsspec's backends has errors of its own: they are told by number, by class, and by the names of
classes that are not imported here. Their own texts may hold secrets and are not repeated.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class StorageTrouble:
    """`wide`: no other picture can be kept either; None: nobody knows before it is tried."""

    reason: str
    cure: str
    wide: bool | None = True


FULL = StorageTrouble(
    "no space is left", "make room in {where}, or name another place in ORCHESTRATOR_ARTIFACTS"
)
READ_ONLY = StorageTrouble("it is mounted read-only", "mount {where} for writing")
DENIED = StorageTrouble(
    "writing is not allowed", "let the workers' user, or their credentials, write to {where}", None
)
MISSING = StorageTrouble(
    "there is no such bucket or folder", "create {where}, or mend ORCHESTRATOR_ARTIFACTS", None
)
IN_THE_WAY = StorageTrouble("a file stands where a folder should be", "move it away from {where}", None)
TOO_LONG = StorageTrouble(
    "its name is too long", "give ORCHESTRATOR_ARTIFACT_NAME fewer or shorter fields", None
)
TOO_LARGE = StorageTrouble(
    "the system allows no file so large", "raise the limit (`ulimit -f`) of the workers", None
)
SILENT = StorageTrouble("it does not answer", "is {where} up, and reached from the workers?")
NO_CREDENTIALS = StorageTrouble("it has no credentials", "give the workers the credentials for {where}")
UNKNOWN = "see the log of the workers, and try `orchestrator doctor` there"

BY_NUMBER = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), FULL),
    errno.EROFS: READ_ONLY,
    **dict.fromkeys((errno.EACCES, errno.EPERM), DENIED),
    errno.ENOENT: MISSING,
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST, errno.EISDIR), IN_THE_WAY),
    errno.ENAMETOOLONG: TOO_LONG,
    errno.EFBIG: TOO_LARGE,
}
BY_CLASS: tuple[tuple[type[Exception], StorageTrouble], ...] = (
    (PermissionError, DENIED),
    (FileNotFoundError, MISSING),
    (FileExistsError, IN_THE_WAY),
    (NotADirectoryError, IN_THE_WAY),
    (TimeoutError, SILENT),
    (ConnectionError, SILENT),
)
BY_NAME = {
    # botocore
    "NoCredentialsError": NO_CREDENTIALS,
    "PartialCredentialsError": NO_CREDENTIALS,
    "EndpointConnectionError": SILENT,
    "ConnectTimeoutError": SILENT,
    "ReadTimeoutError": SILENT,
    "ConnectionClosedError": SILENT,
    # aiohttp, which gcsfs calls by
    "ClientConnectorError": SILENT,
    "ServerDisconnectedError": SILENT,
    # azure-core
    "ClientAuthenticationError": DENIED,
    "ServiceRequestError": SILENT,
    "ServiceResponseError": SILENT,
}


def trouble(error: Exception) -> StorageTrouble:
    """What it means. `cure` still has `{where}` in it."""
    if isinstance(error, OSError) and error.errno in BY_NUMBER:
        return BY_NUMBER[error.errno]
    if known := BY_NAME.get(type(error).__name__):
        return known
    for kind, told in BY_CLASS:
        if isinstance(error, kind):
            return told
    number = error.errno if isinstance(error, OSError) else None
    return StorageTrouble(os.strerror(number) if number else type(error).__name__, UNKNOWN)
