"""Stored trees graded again: trees a second, and equal labels where the verifier is the same.

Run: python tests/bench/bench_regrade.py [--trees 10000] [--nodes 24] [--postgres]

The trees are made here from a seed, of problems with numbers as answers, and labelled by the real
labeler; then `restmcts regrade` has them verified and labelled once more by the same verifier. The
labels must be equal.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench_search_worker import postgres
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.rows import Columns
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.trees import NODES, TREES, node_row
from restmcts.adapters.sql.tables import TreeState
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ProposedStep
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.tree import Tree
from restmcts.testing.trees import answer_step
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts.usecases.label import Regraded, label_trees, regrade
from sqlalchemy import select

RUN = "stored"
TREES_AT_ONCE = 64
END_RATE = 0.3
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=24, help="nodes of a tree")
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL of its own, in place of SQLite")
    given = parser.parse_args()
    with _database(given.postgres) as database, AnswerVerifier() as verifier:
        tree_ids = store_trees(database, given.trees, given.nodes)
        begin = time.perf_counter(), time.process_time()
        for first in range(0, len(tree_ids), TREES_AT_ONCE):
            label_trees(database, verifier, tree_ids[first : first + TREES_AT_ONCE])
        _print("labelled", len(tree_ids), *begin)
        begin = time.perf_counter(), time.process_time()
        found = regrade(database, verifier, verifier.verifier_version, RUN, "again")
        _print("graded again", found.num_trees, *begin)
        check_equal(found, len(tree_ids))


def store_trees(database: Database, num_trees: int, num_nodes: int) -> list[int]:
    """Store a run with so many trees that have ended; return their ids."""
    problems = [Problem(f"What is {number} + 5?", str(number + 5)) for number in range(num_trees)]
    phase = SearchPhase("collect-1", 1, "collect", "train", "base", "value-0", MctsStarSettings(mode="collect"))
    models = {"base": NewCheckpoint("policy", "someone/model"), "value-0": NewCheckpoint("value", "someone/values")}
    new = NewRun(RUN, "rest-mcts", 0, [phase], problems={"train": problems}, checkpoints=models)
    with database.transaction() as transaction:
        run_id = create_run(transaction, new).run_id
        (stored,) = runs.phases_of(transaction, run_id)
        of_run = select(PROBLEMS.c.id).where(PROBLEMS.c.run_id == run_id).order_by(PROBLEMS.c.id)
        problem_ids = list(transaction.execute(of_run).scalars())
    for first in range(0, num_trees, 1000):
        with database.transaction() as transaction:
            chunk = range(first, min(first + 1000, num_trees))
            made = {number: stored_tree(number, num_nodes) for number in chunk}
            rows = [_tree_row(run_id, stored.id, problem_ids[number], made[number]) for number in chunk]
            transaction.insert(TREES, rows)
            of_phase = select(TREES.c.id, TREES.c.problem_id).where(TREES.c.phase_id == stored.id)
            ids = {row.problem_id: row.id for row in transaction.execute(of_phase)}
            nodes = [node_row(ids[problem_ids[number]], node) for number, tree in made.items() for node in tree.nodes]
            transaction.insert(NODES, nodes)
    with database.transaction() as transaction:
        return list(transaction.execute(select(TREES.c.id).order_by(TREES.c.id)).scalars())


def stored_tree(number: int, num_nodes: int) -> Tree:
    """Return a tree of problem `number`, whose answer is `number` + 5: about a third of its leaves
    state an answer, half of them the right one.
    """
    generator = random.Random(number)
    tree = Tree()
    while len(tree) < num_nodes:
        parent = generator.choice([node for node in tree.nodes if not node.final])
        ends = generator.random() < END_RATE
        answer = number + 5 + generator.choice((0, 0, 1, 2))
        text = answer_step(str(answer)) if ends else f"We add {len(tree)}.\n"
        tree.add_child(parent, ProposedStep(text, 8, -2.0), final=ends)
    return tree


def _tree_row(run_id: int, phase_id: int, problem_id: int, tree: Tree) -> Columns:
    chosen = next((node.node_id for node in tree.final_nodes()), None)
    return {
        "run_id": run_id,
        "phase_id": phase_id,
        "problem_id": problem_id,
        "seed": problem_id,
        "state": TreeState.ENDED.value,
        "nodes": len(tree),
        "chosen_node": chosen,
        "started_at": NOW,
        "ended_at": NOW + timedelta(seconds=1),
    }


def check_equal(found: Regraded, num_trees: int) -> None:
    """Fail unless every tree was graded again, and no verdict and no label is another one."""
    assert found.num_trees == num_trees, f"{found.num_trees:,} of {num_trees:,} trees"
    assert found.num_labels > 0, "no label was made"
    assert found.num_verdicts_changed == 0, f"{found.num_verdicts_changed:,} verdicts changed"
    assert found.num_labels_changed == 0, f"{found.num_labels_changed:,} labels changed"
    print(f"{sum(found.verdicts.values()):,} verdicts and {found.num_labels:,} labels are equal")


def _print(what: str, num_trees: int, begin: float, cpu_begin: float) -> None:
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu_begin
    print(f"{num_trees:,} trees {what} in {seconds:.1f} s ({cpu:.1f} s of CPU): {num_trees / seconds:,.0f} a second")


@contextmanager
def _database(on_postgres: bool) -> Iterator[Database]:
    if on_postgres:
        with postgres() as url:
            database = Database(url)
            database.create_tables()
            yield database
            database.close()
        return
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'run.db'}")
        database.create_tables()
        yield database
        database.close()


if __name__ == "__main__":
    main()
