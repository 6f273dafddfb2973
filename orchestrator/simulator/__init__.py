"""The providers' HTTP APIs on a local port: for the demo, the tests, chaos runs and benchmarks.

A server of its own, in its own process. It knows nothing of the orchestrator, and nothing in the orchestrator
imports it. `apis/` holds one file per provider API; all else here is the engine they share.
"""
