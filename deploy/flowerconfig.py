"""Flower in production: `celery -A workers flower --conf=deploy/flowerconfig.py`. Set here what differs.

All that makes it fit to be shown is there without this file, too: a login, no secrets, rows that are kept
over a restart. What can be set, and what it is without: docs/flower.md
"""
