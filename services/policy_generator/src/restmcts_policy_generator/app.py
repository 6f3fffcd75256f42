"""The Celery application of the policy generator: `celery -A restmcts_policy_generator.app
worker`.
"""

from restmcts.adapters.workers.celery_worker import worker_app
from restmcts.messages.base import Queue

from restmcts_policy_generator.tasks import start

app = worker_app(Queue.POLICY, start)
