"""Stored trees graded again: a run of its own, equal labels where the verifier is the same, and
what changed where it is another one.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.reads.run_times import run_times
from restmcts.adapters.sql.state import runs, trees
from restmcts.adapters.sql.state.trees import NODES, PHASES, TREES
from restmcts.domain.labels.annotations import annotation
from restmcts.domain.problems import Check, Verdict
from restmcts.domain.runs.phases import TrainValuePhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.tasks.task import Judgement
from restmcts.testing.policy_servers import END, PolicyServer
from restmcts.usecases import label
from restmcts.usecases.label import regrade
from restmcts.usecases.truth.annotate import annotate
from restmcts_cli import row_progress
from sqlalchemy import func, select
from typer.testing import Result

Document = Callable[..., Any]
VALUE_PHASE = TrainValuePhase("value-9", 1, None, "base", TrainingSettings(), ("collect-1",))


class Halving:
    """Calls nothing right, and gives every solution half a score."""

    def judge(self, checks: Sequence[Check]) -> list[Judgement]:
        return [Judgement(Verdict.WRONG, 0.5, "tests", "1 of 2 tests passed") for _ in checks]

    def verify(self, checks: Sequence[Check]) -> list[Verdict]:
        return [one.verdict for one in self.judge(checks)]


@pytest.fixture
def database(workdir: Path) -> Database:
    return Database(f"sqlite:///{workdir / 'run.db'}")


def labels_of(database: Database, run: str) -> list[Any]:
    """Return what a run's trees came to, in order of phase and problem, without numbers."""
    with database.transaction() as transaction:
        row = queries.run_named(transaction, run)
        found = transaction.execute(select(TREES).where(TREES.c.run_id == row.id).order_by(TREES.c.id)).all()
        labels = trees.load_labels(transaction, [tree.id for tree in found])
        return [(tree.verdict, tree.answer, tree.solved, tree.tokens, labels[tree.id]) for tree in found]


def test_the_same_verifier_gives_the_same_labels(workdir: Path, document: Document, database: Database) -> None:
    found = document("regrade", "mine", "--workdir", workdir)
    assert found["run"] == "mine-regraded"
    assert found["num_trees"] > 5 and found["num_labels"] > 0
    assert (found["num_verdicts_changed"], found["num_labels_changed"]) == (0, 0)
    assert found["solved_before"] == found["solved_now"] > 0
    assert labels_of(database, "mine-regraded") == labels_of(database, "mine")
    (listed,) = [run for run in document("runs", "list", "--workdir", workdir) if run["name"] == "mine-regraded"]
    assert listed["state"] == "done"
    with database.transaction() as transaction:
        row = queries.run_named(transaction, "mine-regraded")
        times = run_times(transaction, [row.id])[row.id]
        first = transaction.execute(select(func.min(PHASES.c.started_at)).where(PHASES.c.run_id == row.id)).scalar_one()
    assert first < row.created_at == times.started <= times.last_change, "searches are older than the copy of them"
    shown = document("runs", "show", "mine-regraded", "--workdir", workdir)
    assert shown["started_at"].startswith(f"{row.created_at:%Y-%m-%d}")


def test_it_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, workdir: Path, call: Callable[..., Result]) -> None:
    monkeypatch.setattr(row_progress, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(label, "TREES_PER_TRANSACTION", 2)
    done = call("regrade", "mine", "--workdir", workdir)
    assert done.exit_code == 0 and "grading mine again: 2 trees" in done.stderr, done.output


def test_another_verifier_changes_the_copy_and_says_how(database: Database) -> None:
    before = labels_of(database, "mine")
    found = regrade(database, Halving(), "halving", "mine", "half")
    assert found.num_verdicts_changed > 0
    assert {after for _, after in found.verdicts} == {"wrong", "undecided"}, "unfinished leaves are open"
    assert sum(count for (was, now), count in found.solved.items() if was and not now) > 0
    assert labels_of(database, "mine") == before
    with database.transaction() as transaction:
        run = queries.run_named(transaction, "half")
        assert run.config["regraded"] == {"run": "mine", "verifier": "halving"}
        of_run = NODES.join(TREES, TREES.c.id == NODES.c.tree_id)
        verified = select(NODES.c.score, NODES.c.verdict_source, NODES.c.reason).select_from(of_run).distinct()
        rows = transaction.execute(verified.where(TREES.c.run_id == run.id, NODES.c.verdict == "wrong")).all()
        assert [tuple(row) for row in rows] == [(0.5, "tests", "1 of 2 tests passed")]
        most = select(func.max(NODES.c.quality_value)).select_from(of_run).where(TREES.c.run_id == run.id)
        assert transaction.execute(most).scalar_one() == pytest.approx(0.5)


def test_one_that_was_stopped_goes_on_where_it_was(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label, "TREES_PER_TRANSACTION", 2)

    def stop(num_trees: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        regrade(database, Halving(), "halving", "mine", "half", stop)
    with database.transaction() as transaction:
        assert queries.run_named(transaction, "half").state == "paused"
    rest = regrade(database, Halving(), "halving", "mine", "half")
    assert rest.num_trees + 2 == len(labels_of(database, "half")) == len(labels_of(database, "mine"))


def test_bad_input_is_one_line_and_changes_nothing(
    workdir: Path, call: Callable[..., Result], document: Document
) -> None:
    document("regrade", "mine", "--workdir", workdir)
    again = call("regrade", "mine", "--workdir", workdir)
    assert "choose another name with --name" in str(again.exception)
    assert "no run" in str(call("regrade", "nobody", "--workdir", workdir).exception)
    assert len(document("runs", "list", "--workdir", workdir)) == 2


def test_votes_over_stored_trees_say_how_many_of_them_are_true(
    workdir: Path, call: Callable[..., Result], document: Document
) -> None:
    found = document("regrade", "mine", "--truth", "votes", "--set", "truth.min_branches=1", "--workdir", workdir)
    assert found["truth"]["source"] == "votes" and found["truth"]["checked"]
    (iteration,) = [one for one in found["truth"]["iterations"] if one["iteration"] == 1]
    assert iteration["num_trees"] > iteration["num_undecided"] and iteration["probe_accuracy"]["n"] > 0
    shown = document("runs", "show", "mine-regraded", "--workdir", workdir)
    assert shown["truth"] == found["truth"]
    other = document("regrade", "mine", "--truth", "answers", "--name", "known", "--workdir", workdir)
    assert other["truth"] is None and other["num_verdicts_changed"] == 0
    refused = call("regrade", "mine", "--set", "budget.nodes=3", "--name", "x", "--workdir", workdir)
    assert "only settings of verdicts" in str(refused.exception)


def agreeing(text: str) -> dict[str, float]:
    """Return the log-probabilities of a judge that says yes to everything, and ends."""
    said = text.endswith("The answer is yes\n")
    return {END: -0.01 if said else -9.0, "The answer is yes\n": -9.0 if said else -0.01}


def test_judges_behind_http_decide_over_stored_trees(
    workdir: Path, call: Callable[..., Result], document: Document, database: Database
) -> None:
    with PolicyServer(model="judge", log_probs_of=agreeing) as server:
        options = ["--truth", "judge", "--set", f'truth.judges=["{server.uri("chat")}"]', "--workdir", workdir]
        found = document("regrade", "mine", *options)
        prompts = [body["messages"][-1]["content"] for body in server.bodies]
    assert found["truth"]["source"] == "judge" and found["truth"]["checked"]
    assert found["solved_now"] >= found["solved_before"]
    assert any("yes or no." in one for one in prompts) and any("no or yes." in one for one in prompts)
    with database.transaction() as transaction:
        judged = select(NODES.c.verdict, NODES.c.reason).where(NODES.c.verdict_source == "judge")
        rows = transaction.execute(judged).all()
    assert {row.verdict for row in rows} <= {"right", "undecided"}, "what is not finished is not judged"
    assert all("The answer is yes" in row.reason for row in rows if row.verdict == "right"), "replies are stored"
    assert any(row.verdict == "right" for row in rows)
    refused = call(
        "regrade", "mine", "--truth", "judge", "--set", 'truth.judges=["nonsense"]', "--name", "x", *options[-2:]
    )
    assert refused.exit_code != 0 and "nonsense" in str(refused.exception)
    unnamed = call("regrade", "mine", "--truth", "judge", "--name", "x", *options[-2:])
    assert "name at least one model that judges" in str(unnamed.exception)


def test_training_data_are_made_anew_of_the_labels_that_people_gave(
    workdir: Path, call: Callable[..., Result], document: Document, database: Database, tmp_path: Path
) -> None:
    """Each file is of the same phase: with the labels of the run, graded as before, and with a
    step that people call wrong.
    """
    with database.transaction() as transaction:
        run_id = queries.run_named(transaction, "mine").id
        runs.add_phases(transaction, run_id, [VALUE_PHASE])
        inferred = select(NODES.c.tree_id, NODES.c.node_id).join(TREES, TREES.c.id == NODES.c.tree_id)
        right = inferred.join(PHASES, PHASES.c.id == TREES.c.phase_id).where(
            NODES.c.step_is_right, NODES.c.node_id > 0, PHASES.c.name == "collect-1"
        )
        tree_id, node_id = transaction.execute(right.order_by(NODES.c.tree_id, NODES.c.node_id)).first()
        annotate(transaction, tree_id, node_id, annotation("step", "wrong", "Ada", "", "viewer"))
    document("regrade", "mine", "--name", "as before", "--workdir", workdir)
    document("regrade", "mine", "--annotations", "--name", "ours", "--workdir", workdir)
    lines: dict[str, list[Any]] = {}
    for labels in ("as before", "ours"):
        out = tmp_path / labels
        export = ("datasets", "export", "mine", VALUE_PHASE.name, out, "--format", "trl-stepwise", "--workdir", workdir)
        assert call(*export, "--labels", labels).exit_code == 0
        lines[labels] = [json.loads(line) for line in out.read_text().splitlines()]
    texts = [[(one["prompt"], one["completions"]) for one in lines[labels]] for labels in lines]
    assert texts[0] == texts[1]
    pairs = [
        (was, now)
        for before, after in zip(lines["as before"], lines["ours"], strict=True)
        for was, now in zip(before["labels"], after["labels"], strict=True)
    ]
    assert {(was, now) for was, now in pairs if was != now} == {(True, False)}
    out = tmp_path / "no"
    export = ("datasets", "export", "mine", VALUE_PHASE.name, out, "--format", "trl-stepwise", "--workdir", workdir)
    assert "is no regraded run of mine" in str(call(*export, "--labels", "mine").exception)
    unknown = call(*export[:3], "collect-1", *export[4:], "--labels", "ours")
    assert "has no training phase 'collect-1'" in str(unknown.exception) and not out.exists()
