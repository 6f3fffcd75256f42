"""The Celery application of the coordinator: `celery -A restmcts_coordinator.app worker`."""

from restmcts.adapters.workers.celery_worker import worker_app
from restmcts.messages.base import Queue

from restmcts_coordinator.beat import begin_beat
from restmcts_coordinator.tasks import start

app = worker_app(Queue.COORDINATOR, start, begin_beat)
