"""What every process counts and times, for Prometheus. Each process serves its own numbers; sums
are Prometheus's business.

Counters end in `_total` when scraped; times are in seconds. Label values are few and known
beforehand, and there from the start.
"""

import logging
from http.server import HTTPServer
from pathlib import Path
from threading import Thread

from prometheus_client import Counter, Histogram, start_http_server

from restmcts.messages import routes
from restmcts.messages.base import Queue

log = logging.getLogger(__name__)

PORT_FILE = "metrics-port"
KINDS = ("propose", "score")
SECONDS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

MESSAGES = Counter(
    "restmcts_messages",
    "Messages handled, by how that ended: done, retry (a server is away), refused.",
    ["name", "outcome"],
)
MESSAGE_SECONDS = Histogram("restmcts_message_seconds", "Time that a message took.", ["name"], buckets=SECONDS)
REDELIVERIES = Counter("restmcts_redeliveries", "Messages that came again because nobody acknowledged them.", ["queue"])
DEAD_LETTERS = Counter("restmcts_dead_letters_written", "Messages refused for good.", ["queue"])

BATCH_REQUESTS = Histogram(
    "restmcts_batch_requests", "Requests of one claim.", ["kind"], buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
)
BATCH_FILL = Histogram(
    "restmcts_batch_fill_ratio",
    "Requests of one claim over the most it could hold.",
    ["kind"],
    buckets=(0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1),
)
FORWARD_SECONDS = Histogram("restmcts_forward_seconds", "Time in the model for one claim.", ["kind"], buckets=SECONDS)
TOKENS = Counter("restmcts_tokens", "Tokens: generated, read as prompts, scored.", ["kind"])
GIVEN_BACK = Counter("restmcts_requests_given_back", "Requests that an error left to a later attempt.", ["kind"])
REPLICA_FAILURES = Counter(
    "restmcts_replica_failures", "Batches that one of a model's servers left to its other servers."
)
CHECKPOINT_LOADS = Counter("restmcts_checkpoint_loads", "Checkpoints loaded into memory.")
CHECKPOINT_LOAD_SECONDS = Histogram(
    "restmcts_checkpoint_load_seconds", "Time to fetch and load a checkpoint.", buckets=SECONDS
)

EXPANSIONS = Counter("restmcts_expansions", "Answers of policies that searches have read.")
NODES = Counter("restmcts_nodes", "Nodes added to trees.")
TREES_ENDED = Counter("restmcts_trees_ended", "Searches that ended, by why.", ["reason"])

VERDICTS = Counter("restmcts_verdicts", "Ends of trees verified, by verdict.", ["verdict"])
TOOL_CALLS = Counter("restmcts_tool_calls", "Calls of tools, by whether they were answered.", ["outcome"])
TREES_LABELLED = Counter("restmcts_trees_labelled", "Trees labelled or evaluated.")

TRAININGS = Counter("restmcts_trainings", "Training jobs, by how they ended: done, failed, given back.", ["outcome"])
TRAINING_SECONDS = Histogram(
    "restmcts_training_seconds", "Time of a training job.", buckets=(10, 60, 300, 900, 3600, 14400, 86400)
)

PAGE_SECONDS = Histogram(
    "restmcts_page_seconds", "Time until the dashboard began to answer.", ["status"], buckets=SECONDS
)

WAKE_UPS = Counter("restmcts_rings", "Times that something overdue was woken again.", ["what"])

for _name in routes.MESSAGES:
    MESSAGE_SECONDS.labels(_name)
    for _outcome in ("done", "retry", "refused"):
        MESSAGES.labels(_name, _outcome)
for _queue in Queue:
    REDELIVERIES.labels(_queue.value)
    DEAD_LETTERS.labels(_queue.value)
for _kind in KINDS:
    for _metric in (BATCH_REQUESTS, BATCH_FILL, FORWARD_SECONDS, GIVEN_BACK):
        _metric.labels(_kind)
for _metric_of, _values in (
    (TOKENS, ("generated", "prompt", "scored")),
    (TREES_ENDED, ("gate", "budget", "complete", "exhausted")),
    (VERDICTS, ("right", "wrong", "undecided")),
    (TRAININGS, ("done", "failed", "given-back")),
    (WAKE_UPS, ("tree", "job", "lease", "outbox")),
):
    for _value in _values:
        _metric_of.labels(_value)


def begin(host: str, port: int | None, folder: Path) -> tuple[HTTPServer, Thread] | None:
    """Begin to serve /metrics, and write the port to a file of the folder; None where no port is
    set.
    """
    if port is None:
        return None
    try:
        server, thread = start_http_server(port, addr=host)
    except OSError as error:
        log.warning("metrics are not served on %s:%d (%s)", host, port, error)
        return None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PORT_FILE).write_text(str(server.server_port))
    return server, thread


def end(server: HTTPServer, thread: Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()
