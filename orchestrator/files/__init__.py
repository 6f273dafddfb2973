"""A file of requests in, a file of outcomes out: `run` is what `orchestrator run` does, for Python."""

from orchestrator.files.run import Plan, Summary, check_file, run
from orchestrator.files.source import Source

__all__ = ["Plan", "Source", "Summary", "check_file", "run"]
