"""The page of a run: what came out, decisions in its curves, problems across iterations, and rows
of training data.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.files.dataset_shards import (
    POLICY_SCHEMA,
    PREFERENCE_SCHEMA,
    VALUE_SCHEMA,
    rows_between,
    write_shards,
)
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.runs import DATASETS
from restmcts.adapters.sql.state.trees import PHASES, TREES
from restmcts.adapters.sql.tables import PhaseState
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import PromotionPhase, SearchPhase, TrainPolicyPhase, TrainValuePhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import CotSettings
from restmcts_dashboard.runs.problem_reads import OUTCOMES, read_problems
from restmcts_dashboard.serving import folder_source
from restmcts_dashboard.source import Source
from sqlalchemy import delete, insert, update

# by problem: whether the policies of iteration 0, 1 and 2 were right
METHODS = ("greedy", "best-first @ 240")
RIGHT = {"won": "001", "lost": "110", "never": "000", "always": "111", "between": "101", "won later": "011"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder: a run that was evaluated three times on six problems, whose second policy was
    promoted and whose third was rejected, with a control that is right where the last policy is
    wrong, two methods that are compared on the same problems as another set, and training data for
    a value model.
    """
    path = tmp_path_factory.mktemp("run-page")
    database = Database(f"sqlite:///{path / 'run.db'}")
    database.create_tables()
    names = ["grade-base", "grade-policy-1", "grade-policy-2"]
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "three policies", "rest-mcts", 0, {"spec": {"budget": {"tokens": 123}}})
        runs.add_problems(transaction, run_id, "test", [Problem(f"<i>{name}</i>", "1") for name in RIGHT])
        runs.add_problems(transaction, run_id, "compared", [Problem(name, "1") for name in RIGHT])
        graded = [SearchPhase(name, n, "evaluate", "test", "base", None, CotSettings()) for n, name in enumerate(names)]
        control = SearchPhase("grade-control-2", 2, "evaluate", "test", "base", None, CotSettings())
        methods = [SearchPhase(name, 2, "evaluate", "compared", "base", None, CotSettings()) for name in METHODS]
        gates = [PromotionPhase(f"gate-{n}", n, "policy", f"policy-{n}", "grade-base") for n in (1, 2)]
        value = TrainValuePhase("value-1", 1, None, "base", TrainingSettings(), ("collect-1",))
        policies = [TrainPolicyPhase(f"policy-{n}", n, "base", TrainingSettings(), ("collect-1",)) for n in (1, 2)]
        runs.add_phases(transaction, run_id, [control, *graded, *methods, *gates, value, *policies])
        ids = {row.name: row.id for row in runs.phases_of(transaction, run_id)}
        answers = {name: [found[place] for found in RIGHT.values()] for place, name in enumerate(names)}
        answers["grade-control-2"] = ["01"[found[-1] == "0"] for found in RIGHT.values()]
        answers |= {name: [found[place] for found in RIGHT.values()] for place, name in enumerate(METHODS)}
        for name, found in answers.items():
            row = {"run_id": run_id, "phase_id": ids[name], "seed": 0, "state": "labelled", "tokens": 10}
            row["solved"] = True
            for problem, right in zip(
                runs.problems_of(transaction, run_id, "compared" if name in METHODS else "test"), found, strict=True
            ):
                verdict = "right" if right == "1" else "wrong"
                values = {**row, "problem_id": problem.id, "verdict": verdict, "ended_at": moment()}
                transaction.execute(insert(TREES).values(values))
        for n, promoted in ((1, True), (2, False)):
            result = {"candidate": f"policy-{n}", "promoted": promoted, "reason": "why"}
            transaction.execute(update(PHASES).where(PHASES.c.id == ids[f"gate-{n}"]).values(result=result))
        transaction.execute(update(PHASES).values(state=PhaseState.DONE.value))
        runs.add_checkpoint(transaction, run_id, "value-1", "value", "artifact:value", "0")
        store_rows(path, transaction, ids["value-1"])
        store_policy_rows(path, transaction, ids["policy-1"], ids["policy-2"])
    database.close()
    return path


def test_the_page_says_where_the_run_comes_from(client: Any) -> None:
    _, page, _ = client.get("/runs/1")
    section = page.split("Where this run comes from", 1)[1]
    for part in ("GiB of memory", "python 3.", "started (UTC)", "All 1 settings", "budget.tokens", "123"):
        assert part in section
    assert "restmcts runs spec &#39;three policies&#39;" in section


def store_rows(path: Path, transaction: Any, phase_id: int) -> None:
    rows = [
        {
            "question": f"question {number}",
            "steps": ["<u>first</u>\n", "second\n"],
            "targets": [0.25, number / 100],
            "leads_to_right": [True, False],
            "finished": True,
            "problem_id": 1,
            "tree_id": 4,
            "node_id": 7,
        }
        for number in range(60)
    ]
    written = path / "written"
    written.mkdir()
    card = write_shards(iter(rows), VALUE_SCHEMA, {"sources": ["collect-1"]}, written)
    artifact = FolderArtifactStore(path / "artifacts").put(written, "datasets", {})
    columns = {"phase_id": phase_id, "kind": "train-value", "uri": artifact.uri, "digest": artifact.digest}
    transaction.execute(insert(DATASETS).values(**columns, num_rows=60, card=card))


def store_policy_rows(path: Path, transaction: Any, weighted: int, paired: int) -> None:
    """Store what one policy learns from weights, and another from pairs."""
    origin = {"question": "q", "problem_id": 1, "tree_id": 4, "node_id": 7}
    weights = {"steps": ["a\n"], "weights": [1.0], "values": [0.875], "leaf_counts": [8], "log_probs": [-1.0]}
    pair = {"steps": ["a\n"], "chosen": ["b\n"], "rejected": ["c\n"], "chosen_value": 0.75, "rejected_value": 0.25}
    ends = {"chosen_finished": True, "rejected_finished": True, "rejected_node_id": 8}
    for phase_id, objective, schema, row in (
        (weighted, "sft", POLICY_SCHEMA, {**weights, "finished": True, "pair": None, "model_value": None}),
        (paired, "dpo", PREFERENCE_SCHEMA, {**pair, **ends}),
    ):
        written = path / f"written-{objective}"
        written.mkdir()
        card = write_shards(iter([{**origin, **row}]), schema, {"objective": objective, "sources": []}, written)
        artifact = FolderArtifactStore(path / "artifacts").put(written, "datasets", {})
        columns = {"phase_id": phase_id, "kind": "train-policy", "uri": artifact.uri, "digest": artifact.digest}
        transaction.execute(insert(DATASETS).values(**columns, num_rows=1, card=card))


@pytest.fixture(scope="module")
def client(folder: Path, served: Callable[[Source], Any]) -> Any:
    return served(folder_source(folder / "run.db"))


@pytest.fixture
def database(folder: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{folder / 'run.db'}", read_only=True)
    yield database
    database.close()


def test_the_page_begins_with_what_came_of_the_policy_on_the_same_problems(client: Any) -> None:
    """Right: 3 of 6 at first, 4 of 6 at last; two problems were won and one was lost."""
    page = client.text("/runs/1")
    summary, charts = page.index('id="summary"'), page.index('id="charts"')
    assert summary < page.index("Accuracy of the policy") < charts < page.index('id="phases"')
    assert "gain +16.7 ± 30.7 (+0.5 SE) points on the same 6 problems" in page
    assert '<th scope="row" class="text">budget.tokens</th><td class="text">123</td>' in page


def test_decisions_on_policies_are_marked_in_the_curve_over_iterations_and_tokens(client: Any) -> None:
    for x in ("iteration", "tokens"):
        page = client.text(f"/runs/1?x={x}")
        assert "✓<title>policy-1 was promoted</title>" in page
        assert "✗<title>policy-2 was rejected</title>" in page
        assert f'data-live="/runs/1/live?x={x}"' in page


def test_problems_are_won_lost_or_never_solved_across_iterations(client: Any, database: Database) -> None:
    with database.transaction() as transaction:
        table = read_problems(transaction, 1)
        won = read_problems(transaction, 1, outcome="won", question="LATER")
    assert table.groups == ["test", "compared"]
    assert list(table.of_policy) == ["grade-base", "grade-policy-1", "grade-policy-2"]
    assert list(table.phases) == [*table.of_policy, "grade-control-2"], "a control is shown, but is not the run"
    assert [row.outcome for row in table.rows] == ["won", "lost", "never", "always", "between", "won"]
    assert table.counts == {"won": 2, "lost": 1, "never": 1, "always": 1, "between": 1}
    assert [row.question for row in won.rows] == ["<i>won later</i>"]
    assert [one.is_right for one in won.rows[0].attempts if one] == [False, True, True, False]
    page = client.text("/runs/1/problems?outcome=lost")
    assert page.count('<tr><th scope="row"') == 1
    assert "&lt;i&gt;lost" in page
    assert '<a class="verdict right" href="/trees/2">' in page and '<a class="verdict wrong" href="/trees/14">' in page
    assert all((words in page) == (name != "some") for name, words in OUTCOMES.items())
    assert "Outcomes are of the policy, from grade-base to grade-policy-2; the columns after them" in page


def test_outcomes_after_one_evaluation_name_it_once(
    folder: Path, tmp_path: Path, served: Callable[[Source], Any]
) -> None:
    shutil.copyfile(folder / "run.db", tmp_path / "run.db")
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    with database.transaction() as transaction:
        ids = [row.id for row in runs.phases_of(transaction, 1) if row.name.startswith("grade-policy")]
        transaction.execute(delete(TREES).where(TREES.c.phase_id.in_(ids)))
        transaction.execute(update(PHASES).where(PHASES.c.id.in_(ids)).values(state=PhaseState.PENDING.value))
    database.close()
    page = served(folder_source(tmp_path / "run.db")).text("/runs/1/problems")
    assert "Outcomes are of the policy, in grade-base; the columns after" in page


def test_methods_that_are_compared_have_no_first_and_last(client: Any, database: Database) -> None:
    with database.transaction() as transaction:
        table = read_problems(transaction, 1, "compared")
    assert list(table.phases) == list(METHODS) and not table.of_policy
    assert [row.outcome for row in table.rows] == ["never", "always", "never", "always", "some", "some"]
    page = client.text("/runs/1/problems?of=compared")
    assert "right by some methods (2)" in page and "at last" not in page and "Outcomes are of" not in page


def test_what_evaluations_answered_is_no_problem_that_was_solved(client: Any) -> None:
    """The report counts the trees that were searched for training data; this run has none."""
    assert "Solved" not in client.text("/runs/1").partition('id="phases"')[0]


def test_rows_of_training_data_are_browsed_step_by_step(client: Any) -> None:
    assert '<a href="/runs/1/data/value-1">collect-1</a>' in client.text("/runs/1")
    first, last = client.text("/runs/1/data/value-1"), client.text("/runs/1/data/value-1?page=2")
    assert first.count("<section") == 25 and last.count("<section") == 10
    assert "&lt;u&gt;first" in first and '<a href="/trees/4#node-7">' in first
    assert "page 3 of 3" in last and "0.590" in last
    assert "0.250" in first
    assert client.get("/runs/1/data/value-1?page=3")[0] == 404
    assert client.get("/runs/1/data/policy-9")[0] == 404


def test_numbers_of_one_step_that_differ_have_names_that_differ(client: Any) -> None:
    heads = {
        name: re.findall(
            '<th scope="col"[^>]*>([^<]*)</th>', client.text(f"/runs/1/data/{name}").partition("</thead>")[0]
        )
        for name in ("value-1", "policy-1", "policy-2")
    }
    assert heads == {
        "value-1": ["Step", "Target"],
        "policy-1": ["Step", "Weight", "Estimate"],
        "policy-2": ["Step", "Score"],
    }
    assert "0.875" in client.text("/runs/1/data/policy-1") and "0.750" in client.text("/runs/1/data/policy-2")


def test_without_an_account_of_the_bucket_a_command_that_prints_training_rows_is_named(
    folder: Path, served: Callable[..., Any]
) -> None:
    client = served(Source(Database(f"sqlite:///{folder / 'run.db'}", read_only=True), "a stack"))
    status, page, _ = client.get("/runs/1/data/value-1")
    assert status == 404
    assert "restmcts datasets show &#39;three policies&#39; value-1" in page


def test_a_window_of_rows_may_span_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restmcts.adapters.files.dataset_shards.ROWS_PER_SHARD", 4)
    monkeypatch.setattr("restmcts.adapters.files.dataset_shards.ROWS_PER_BATCH", 3)
    empty = dict.fromkeys(PREFERENCE_SCHEMA.names)
    rows = [{**empty, "question": str(number), "steps": []} for number in range(10)]
    write_shards(iter(rows), PREFERENCE_SCHEMA, {}, tmp_path)
    assert json.loads((tmp_path / "card.json").read_text())["num_rows"] == 10
    for begin, end in ((0, 3), (3, 9), (8, 20), (4, 4), (20, 30)):
        found = [int(row["question"]) for row in rows_between(tmp_path, begin, end)]
        assert found == list(range(10))[begin:end]
