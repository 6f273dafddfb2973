"""Prometheus: what this process measured, and, at the ticker, what stands in Redis. Nobody else knows it."""
