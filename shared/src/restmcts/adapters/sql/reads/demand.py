"""How much work there is for each kind of worker, in one number a kind.

    python -m restmcts.adapters.sql.reads.demand > infra/helm/restmcts/files/demand.json

writes the queries for KEDA's PostgreSQL scaler; `restmcts workers autoscale` asks the same ones.
What waits and what is leased counts alike, so that a worker that is busy is not stopped. One run
counts at most `RUN_SHARE` requests or trees: a large run cannot claim every machine for itself.
"""

import json
import sys

from sqlalchemy import text

from restmcts.adapters.sql.database import Transaction

RUN_SHARE = 1024


def _shared(counts: str) -> str:
    """Return the query for the sum over running runs of what a query counts by run."""
    return f"SELECT COALESCE(SUM(CASE WHEN work < {RUN_SHARE} THEN work ELSE {RUN_SHARE} END), 0) FROM ({counts}) AS counts"


def _requests(kind: str) -> str:
    return (
        "SELECT trees.run_id, COUNT(*) AS work FROM requests JOIN trees ON trees.id = requests.tree_id "
        "JOIN runs ON runs.id = trees.run_id WHERE runs.state = 'running' "
        f"AND requests.state IN ('waiting', 'leased') AND requests.kind = '{kind}' GROUP BY trees.run_id"
    )


def _trees(state: str) -> str:
    return (
        "SELECT trees.run_id, COUNT(*) AS work FROM trees JOIN runs ON runs.id = trees.run_id "
        f"WHERE runs.state = 'running' AND trees.state = '{state}' GROUP BY trees.run_id"
    )


def _phases(state: str) -> str:
    return (
        "SELECT phases.run_id, COUNT(*) AS work FROM phases JOIN runs ON runs.id = phases.run_id "
        f"WHERE runs.state = 'running' AND phases.state = '{state}' GROUP BY phases.run_id"
    )


DEMAND: dict[str, str] = {
    "tree-search": _shared(_trees("searching")),
    "value-labeler": _shared(f"{_trees('ended')} UNION ALL {_phases('writing')} UNION ALL {_requests('call')}"),
    "policy-generator": _shared(_requests("propose")),
    "prm-scorer": _shared(f"{_requests('score')} UNION ALL {_phases('gating')}"),
    "trainer": _shared(_phases("training")),
}
"""A query for each kind of worker that scales: requests, trees or jobs of running runs. There is
one coordinator.
"""


def demand(transaction: Transaction, worker: str) -> int:
    """Return how many requests, trees or jobs wait for a kind of worker or are being done."""
    return int(transaction.execute(text(DEMAND[worker])).scalar_one())


if __name__ == "__main__":
    sys.stdout.write(json.dumps(DEMAND, indent=2) + "\n")
