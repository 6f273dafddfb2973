"""Flask: the callback door, and health. Knows `flow`, and nothing of Redis or Celery."""
