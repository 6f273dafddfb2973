"""Flower as this product runs it: `celery -A workers flower`, with or without a configuration file.

It asks for a login, shows no secret, keeps its rows over a restart, and brings them in line with Redis.
"""
