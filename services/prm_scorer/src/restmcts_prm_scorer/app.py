"""The Celery application of the PRM scorer: `celery -A restmcts_prm_scorer.app worker`."""

from restmcts.adapters.workers.celery_worker import worker_app
from restmcts.messages.base import Queue

from restmcts_prm_scorer.tasks import start

app = worker_app(Queue.PRM, start)
