"""The Celery application of the tree search: `celery -A restmcts_tree_search.app worker`."""

from restmcts.adapters.workers.celery_worker import worker_app
from restmcts.messages.base import Queue

from restmcts_tree_search.tasks import start

app = worker_app(Queue.SEARCH, start)
