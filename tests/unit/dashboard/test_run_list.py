"""The list of runs: its numbers, order and filters, runs side by side, tags and the archive."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import progress, queries
from restmcts.adapters.sql.reads.run_lines import KnownWork, RunLine, run_lines
from restmcts.adapters.sql.state import runs, trees
from restmcts.adapters.sql.state.trees import PHASES, TREES
from restmcts.adapters.sql.tables import PhaseState, RunState
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.notebook.runs import LoadedRun
from restmcts.usecases import steer
from restmcts_dashboard.runs.run_list import ROWS_ON_A_PAGE, RunQuery, found_runs, side_by_side
from restmcts_dashboard.runs.run_reads import read_run
from restmcts_dashboard.source import Source
from sqlalchemy import event, insert, update

TOKEN = "a long token"
Serve = Callable[[Source], Any]


def search(name: str, iteration: int, purpose: Any) -> SearchPhase:
    settings = CotSettings() if purpose == "evaluate" else MctsStarSettings(mode="collect")
    return SearchPhase(name, iteration, purpose, "train", "base", None, settings)


def result(right: int, tokens: int, num_trees: int = 10) -> dict[str, int]:
    return {"trees": num_trees, "failed": 0, "solved": right, "right": right, "tokens": tokens}


def test_the_iteration_is_that_of_the_search_and_not_that_of_a_control_ahead_of_it(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    database.create_tables()
    control = [TrainPolicyPhase(f"control-{number}", number, "base", TrainingSettings()) for number in (1, 2)]
    searches = [
        search("grade-base", 0, "evaluate"),
        search("collect-1", 1, "collect"),
        search("collect-2", 2, "collect"),
    ]
    with database.transaction() as transaction:
        for name, phases in (("both", [*searches, *control]), ("control", [searches[0], *control])):
            run_id = runs.create_run(transaction, name, "rest-mcts", 0, {})
            runs.add_checkpoint(transaction, run_id, "base", "policy", "/models/small", "0")
            runs.add_phases(transaction, run_id, phases)

    def start(name: str) -> dict[str, set[int]]:
        with database.transaction() as transaction:
            transaction.execute(update(PHASES).where(PHASES.c.name == name).values(state=PhaseState.DONE.value))
            return {
                line.run.name: {line.counts.iteration, progress.read(transaction, line.run.id).iteration}
                for line in run_lines(transaction)
            }

    assert start("grade-base") == {"both": {0}, "control": {0}}
    assert start("control-1") == {"both": {0}, "control": {1}}
    assert start("collect-1") == {"both": {1}, "control": {1}}
    assert start("control-2") == {"both": {1}, "control": {2}}
    assert start("collect-2") == {"both": {2}, "control": {2}}
    database.close()


def store(database: Database, name: str, scores: tuple[int, ...], config: dict[str, Any]) -> int:
    """Store a run with a score of ten for each policy that it evaluated, from the first on; the
    searches between them generated 1,000 tokens each.
    """
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, name, str(config["method"]), 0, {"spec": config})
        runs.add_checkpoint(transaction, run_id, "base", "policy", f"/models/{config['policy']}", "0")
        known: dict[SearchPhase, dict[str, int]] = {}
        for iteration, right in enumerate(scores):
            if iteration:
                known[search(f"collect-{iteration}", iteration, "collect")] = result(5, 1000)
            graded = f"grade-policy-{iteration}" if iteration else "grade-base"
            known[search(graded, iteration, "evaluate")] = result(right, 10)
        runs.add_phases(transaction, run_id, list(known))
        ids = {row.name: row.id for row in runs.phases_of(transaction, run_id)}
        for phase, numbers in known.items():
            row = {"run_id": run_id, "phase_id": ids[phase.name], "seed": 0, "state": "labelled"}
            row["tokens"] = numbers["tokens"] // 10
            answered = [
                {**row, "problem_id": place, "verdict": "right" if place < numbers["right"] else "wrong"}
                for place in range(10)
            ]
            transaction.execute(insert(TREES), answered)
            statement = update(PHASES).where(PHASES.c.run_id == run_id, PHASES.c.name == phase.name)
            transaction.execute(statement.values(state=PhaseState.DONE.value, result=numbers))
    return run_id


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Three runs: one whose policy rises from 1 to 8 of 10, one that was evaluated once, one that
    searches now.
    """
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    database.create_tables()
    config = {"method": "rest-mcts", "policy": "small", "iterations": 2, "budget": {"iterations": 16}}
    store(database, "rises", (1, 4, 8), config)
    store(database, "once", (3,), {**config, "method": "rest-em", "policy": "large"})
    searching = store(database, "searches", (2,), {**config, "budget": {"iterations": 32}})
    with database.transaction() as transaction:
        runs.add_problems(transaction, searching, "train", [Problem(str(number), "1") for number in range(3)])
        runs.add_phases(transaction, searching, [search("collect-1", 1, "collect")])
        phase = runs.phases_of(transaction, searching)[-1]
        runs.set_phase(transaction, phase.id, PhaseState.SEARCHING)
        row = {"run_id": searching, "phase_id": phase.id, "seed": 1}
        problems = runs.problems_of(transaction, searching, "train")
        trees.create_trees(transaction, [{**row, "problem_id": one.id} for one in problems])
        done = {"state": "labelled", "solved": True, "tokens": 70}
        transaction.execute(update(TREES).where(TREES.c.problem_id == problems[0].id).values(**done))
        for run_id in (1, 2):
            runs.finish_run(transaction, run_id, RunState.DONE)
    yield database
    database.close()


@pytest.fixture
def client(database: Database, served: Serve) -> Any:
    source = Source(Database(str(database.engine.url), read_only=True), "a test", token=TOKEN, writable=database)
    return served(source)


def lines(database: Database) -> dict[str, RunLine]:
    with database.transaction() as transaction:
        return {line.run.name: line for line in run_lines(transaction)}


def names_on(page: str) -> list[str]:
    return re.findall(r'aria-label="Compare (\w+)"', page)


def test_a_run_in_one_line_has_its_first_and_last_accuracy_and_what_it_spent(database: Database) -> None:
    found = lines(database)
    assert list(found) == ["searches", "once", "rises"]
    rises = found["rises"]
    assert (rises.first.accuracy.value, rises.last.accuracy.value, rises.last.accuracy.n) == (0.1, 0.8, 10)  # type: ignore[union-attr]
    assert (rises.counts.tokens, rises.counts.num_trees, rises.counts.iteration) == (2030, 50, 2)
    assert (rises.counts.num_phases, rises.counts.num_ended) == (5, 5)
    assert (found["once"].first.num_right, found["once"].last) == (3, None)  # type: ignore[union-attr]
    counts = found["searches"].counts
    assert (counts.num_trees, counts.num_done, counts.tokens) == (13, 11, 80)


def test_what_ended_runs_came_to_is_read_once_until_they_are_extended(database: Database) -> None:
    known: KnownWork = {}

    def num_phases() -> dict[str, int]:
        with database.transaction() as transaction:
            return {line.run.name: line.counts.num_phases for line in run_lines(transaction, known)}

    assert num_phases() == {"searches": 2, "once": 1, "rises": 5}
    with database.transaction() as transaction:
        for run_id in (2, 3):
            runs.add_phases(transaction, run_id, [search("collect-9", 1, "collect")])
    assert num_phases() == {"searches": 3, "once": 1, "rises": 5}
    with database.transaction() as transaction:
        runs.change_run(transaction, 2, {}, goes_on=True)
    assert num_phases() == {"searches": 3, "once": 2, "rises": 5}
    with database.transaction() as transaction:
        runs.add_phases(transaction, 2, [search("collect-10", 1, "collect")])
        runs.finish_run(transaction, 2, RunState.DONE)
    assert num_phases() == {"searches": 3, "once": 3, "rises": 5}
    with database.transaction() as transaction:
        assert run_lines(transaction, known) == run_lines(transaction)


def test_pages_and_commands_count_what_the_search_solved_alike(database: Database, client: Any) -> None:
    """What evaluations answered is not counted."""
    with database.transaction() as transaction:
        shown = read_run(transaction, 3), progress.read(transaction, 3)
    assert [(one.num_searched, one.num_solved) for one in shown] == [(1, 1)] * 2
    assert "100.0 % [20.7, 100.0] of the 1 tree searched for training data" in client.text("/runs/3")
    page = client.text("/runs/compare?run=1&run=3")
    assert re.findall(r"<td>(\d+ of \d+)", page) == ["2 of 20", "1 of 1"]


def test_a_control_has_the_tokens_of_its_own_iteration_on_pages_and_from_python(database: Database) -> None:
    """Its phase comes after those of later iterations; `rises` generated 1,000 tokens in each."""
    with database.transaction() as transaction:
        runs.add_phases(transaction, 1, [search("grade-control-1", 1, "evaluate")])
        phase = runs.phases_of(transaction, 1)[-1]
        tree = {"run_id": 1, "phase_id": phase.id, "problem_id": 1, "seed": 0, "state": "labelled", "verdict": "right"}
        transaction.execute(insert(TREES).values(tree))
        done = {"state": PhaseState.DONE.value, "result": result(1, 0, 1)}
        transaction.execute(update(PHASES).where(PHASES.c.id == phase.id).values(**done))
    with LoadedRun(Database(str(database.engine.url), read_only=True), "rises") as run:
        found = {(one.series, one.iteration): one.tokens for one in run.curves}
        assert found["control", 1] == found["policy", 1] > found["policy", 0] == 0
        assert found["policy", 2] == 2 * found["policy", 1]
        assert queries.tokens_after(run.phases)["grade-control-1"] == found["control", 1]


def test_trees_of_ended_phases_are_not_read_for_the_list(database: Database) -> None:
    """More statements or more trees of phases that are done would make the list slow."""
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    before = lines(database)
    num_statements = len(statements)
    with database.transaction() as transaction:
        phase = runs.phases_of(transaction, 1)[1]
        transaction.execute(
            insert(TREES),
            [
                {"run_id": 1, "phase_id": phase.id, "problem_id": number, "seed": 0, "tokens": 9}
                for number in range(50, 99)
            ],
        )
    statements.clear()
    assert lines(database) == before
    assert len(statements) == num_statements
    assert num_statements < 12


def test_the_list_is_sorted_and_filtered_by_its_address(client: Any) -> None:
    assert names_on(client.text("/")) == ["searches", "once", "rises"]
    assert names_on(client.text("/?sort=-first")) == ["once", "searches", "rises"]
    assert names_on(client.text("/?sort=name")) == ["once", "rises", "searches"]
    assert 'aria-sort="ascending"' in client.text("/?sort=name")
    assert names_on(client.text("/?text=LARGE%20once")) == ["once"]
    assert names_on(client.text("/?state=running")) == ["searches"]
    assert "No run matches" in client.text("/?text=nothing")
    page = client.text("/?text=rises")
    assert "10.0 % [" in page and "80.0 % [" in page and "2,030" in page
    assert '<a class="sort" href="/?text=rises&amp;sort=-last">' in page


def test_a_policy_that_another_run_has_trained_is_called_by_its_name_there(database: Database, client: Any) -> None:
    with database.transaction() as transaction:
        runs.add_checkpoint(transaction, 1, "policy-0", "policy", "artifact:sha256-0a1b", "0", parent="base")
        beside = runs.create_run(transaction, "beside", "rest-em", 0, {})
        runs.add_checkpoint(transaction, beside, "base", "policy", "artifact:sha256-0a1b", "0")
    assert lines(database)["beside"].policy == "policy-0 of rises"
    assert lines(database)["rises"].policy == "/models/small"
    page = client.text("/")
    assert "policy-0 of rises" in page and "0a1b" not in page


def test_a_long_list_is_cut_into_pages(database: Database) -> None:
    line = lines(database)["once"]
    many = [line] * (ROWS_ON_A_PAGE + 1)
    first, second = (found_runs(many, RunQuery(page=number)) for number in (0, 1))
    assert (len(first.lines), first.has_more) == (ROWS_ON_A_PAGE, True)
    assert (len(second.lines), second.has_more) == (1, False)


def test_runs_side_by_side_begin_with_the_settings_that_differ(client: Any) -> None:
    page = client.text("/runs/compare?run=1&run=3")
    differing, equal = page.split("settings that are equal", 1)
    assert re.search(r"budget.iterations</th><td[^>]*>16</td><td[^>]*>32</td>", differing)
    assert '<th scope="row" class="text">policy</th>' in equal and 'iterations</th><td class="text">2</td>' in equal
    assert "<title>rises: 80.0 % [" in page and "<title>searches: 20.0 % [" in page
    by_tokens = client.text("/runs/compare?run=1&run=3&x=tokens")
    assert "Tokens generated for training data" in by_tokens
    assert "2,000</text>" in by_tokens, "what evaluations generated is no part of it"
    assert "tick two or more runs" in client.get("/runs/compare?run=1")[1]
    assert client.get("/runs/compare?run=1&run=77")[0] == 404
    assert "cannot be compared" not in page


def test_problem_sets_that_a_run_does_not_record_are_no_difference() -> None:
    spec = {"spec": {"iterations": 2}}
    known = {**spec, "problems": {"test": "a" * 64}}
    assert side_by_side([known, spec]) == ({}, {"iterations": "2"})
    assert side_by_side([known, {**known, "problems": {"test": "b" * 64}}, spec])[0] == {
        "problem set test": ["a" * 12, "b" * 12, "not recorded"]
    }
    lacking = {**spec, "problems": {"train": "c" * 64}}
    assert side_by_side([known, lacking])[0] == {
        "problem set test": ["a" * 12, "–"],
        "problem set train": ["–", "c" * 12],
    }


def test_runs_that_were_evaluated_on_different_problems_are_not_compared_unsaid(
    client: Any, database: Database
) -> None:
    for run_id, digest in ((1, "a"), (3, "b")):
        with database.transaction() as transaction:
            runs.change_run(transaction, run_id, {"problems": {"test": digest}}, goes_on=False)
    assert "evaluated on different problems: their accuracies cannot be" in client.text("/runs/compare?run=1&run=3")
    assert "cannot be compared" not in client.text("/runs/compare?run=1&run=2"), "of one nothing is known"


def test_archived_runs_are_listed_only_when_they_are_asked_for(client: Any, database: Database) -> None:
    assert client.get("/runs/1/archive", {"token": "guess"})[0] == 403
    assert client.get("/runs/1/archive", {"token": TOKEN})[0] == 200
    assert names_on(client.text("/")) == ["searches", "once"]
    assert "and 1 archived" in client.text("/")
    assert names_on(client.text("/?archived=true")) == ["searches", "once", "rises"]
    assert "run searches is waiting" in client.get("/runs/3/archive", {"token": TOKEN})[1]
    client.get("/runs/1/archive?undo=true", {"token": TOKEN})
    assert lines(database)["rises"].run.archived_at is None


def test_runs_are_found_by_their_tags(client: Any, database: Database) -> None:
    with database.transaction() as transaction:
        assert steer.tag(transaction, "once", ["paper", "<b>baseline</b>"]) == ["<b>baseline</b>", "paper"]
    page = client.text("/?text=paper")
    assert names_on(page) == ["once"]
    assert "&lt;b&gt;baseline" in page
