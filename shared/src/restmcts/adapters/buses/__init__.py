"""Message buses: Celery on Redis, and one in memory."""
