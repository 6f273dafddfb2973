"""What Redis says of itself."""

from __future__ import annotations

from typing import Any


def memory_of(server: Any) -> int:
    """Bytes of all that is kept, without what comes and goes: buffers of connections and of the file."""
    told = server.info("memory")
    return int(told["used_memory"] - told["mem_clients_normal"] - told["mem_aof_buffer"])


def cpu_seconds_of(server: Any) -> float:
    """CPU of the thread that runs the commands, so far. Unlike their times, it leaves neighbours out."""
    told = server.info("cpu")
    return float(told["used_cpu_user_main_thread"] + told["used_cpu_sys_main_thread"])
