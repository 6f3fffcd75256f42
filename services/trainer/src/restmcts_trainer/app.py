"""The Celery application of the trainer: `celery -A restmcts_trainer.app worker`."""

from restmcts.adapters.workers.celery_worker import worker_app
from restmcts.messages.base import Queue

from restmcts_trainer.tasks import start

app = worker_app(Queue.TRAINER, start)
