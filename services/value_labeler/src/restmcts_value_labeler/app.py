"""The Celery application of the value labeler: `celery -A restmcts_value_labeler.app worker`."""

from restmcts.adapters.workers.celery_worker import worker_app
from restmcts.messages.base import Queue

from restmcts_value_labeler.tasks import start

app = worker_app(Queue.LABELS, start)
