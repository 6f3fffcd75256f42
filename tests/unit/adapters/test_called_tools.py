"""Whole phases of runs whose steps call tools: what is stored, and what data come of it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import trees
from restmcts.adapters.sql.state.trees import NODES, TREES
from restmcts.adapters.verification.code_runs import CodeRuns
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.domain.problems import Problem
from restmcts.domain.requests import CallTool
from restmcts.domain.runs.methods import METHODS
from restmcts.domain.runs.phases import Phase, SearchPhase, TrainPolicyPhase, TrainValuePhase
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import SelfConsistencySettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.search.tool_calls import ToolSettings
from restmcts.domain.tasks.task import ProgramOutput
from restmcts.testing.runs import faults
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels, answer_step
from restmcts.usecases.label import regrade
from sqlalchemy import select

SOLUTION = ("calc: 2+5\n", "result: 7\n", answer_step(RIGHT_ANSWER))
PROBLEMS = {"train": [Problem(str(place), RIGHT_ANSWER, SOLUTION) for place in range(6)]}
RUN = SelfTraining(
    num_iterations=1, train_sets=("train",), bootstrap_set="train", num_bootstrap_samples=3, budget=Budget(tokens=60)
)
TOOLS = ToolSettings(max_calls=3)
OBSERVED = ("result: ", "not answered: ")


class Calling(RandomModels):
    """Random models whose policy often calls the calculator, and Python."""

    def _text(self, number: int) -> str:
        return ("calc: 2+5\n", "calc: 1/0\n", "python: print(3*3)\n", "so\n")[number]


@pytest.fixture(autouse=True)
def python(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ProgramOutput], None]]:
    """Programs print 9, or what they are said to: the sandbox is tried elsewhere."""
    found = [ProgramOutput("9\n")]
    monkeypatch.setattr(CodeRuns, "output", lambda *_: found[-1])
    yield found.append


def with_tools(phase: Phase) -> Phase:
    return replace(phase, tools=TOOLS) if isinstance(phase, SearchPhase) else replace(phase, calls_tools=True)  # type: ignore[call-arg, return-value]


def observations(run: Any) -> list[tuple[str, str, str]]:
    """Return the call, the text and the origin of each stored observation."""
    before = NODES.alias("before")
    join = (before.c.tree_id == NODES.c.tree_id) & (before.c.node_id == NODES.c.parent_id)
    statement = select(before.c.step, NODES.c.step, NODES.c.origin).join(before, join)
    with run.database.transaction() as transaction:
        rows = transaction.execute(statement.where(NODES.c.origin.like("%observation"))).all()
        return [tuple(row) for row in rows]


def check_row(row: dict[str, Any]) -> None:
    """Check that a row of data says nothing of the steps behind calls."""
    for place, step in enumerate(row["steps"]):
        if step.startswith(OBSERVED):
            columns = [row[name] for name in ("weights", "targets", "leads_to_right", "log_probs") if name in row]
            assert columns and all(column[place] is None for column in columns)


@pytest.mark.parametrize("labels", ["values", "hard-rollouts", "first-error", "corrupted"])
def test_no_data_of_a_first_value_model_hold_a_target_of_an_observation(handled_run: Any, labels: Any) -> None:
    run = handled_run({"base": Calling(answer_rate=0.3)}, PROBLEMS)
    run.do(
        [with_tools(phase) for phase in METHODS.get("rest-mcts").first_value(replace(RUN, first_labels=labels), "base")]
    )
    rows = run.dataset("value-0")
    assert any(step.startswith(OBSERVED) for row in rows for step in row["steps"])
    for row in rows:
        check_row(row)
    if labels == "corrupted":
        assert rows[0]["targets"] == [0.5, None, 1.0]
    else:
        origins = {origin for _, _, origin in observations(run)}
        assert origins == ({"observation", "given-observation"} if labels == "values" else {"observation"})
        assert {call: text for call, text, _ in observations(run)} == {
            "calc: 2+5\n": "result: 7\n",
            "calc: 1/0\n": "result: error: division by zero\n",
            "python: print(3*3)\n": "result: 9\n",
        }
    # Given solutions are no responses of a model.
    assert labels == "values" or faults(run.database, run.run_id) == []


def test_the_policys_data_weight_no_observation_in_given_solutions_or_in_trees(handled_run: Any) -> None:
    run = handled_run({"base": Calling(answer_rate=0.3), "value": Calling()}, PROBLEMS)
    collect = SearchPhase(
        "collect", 1, "collect", "train", "base", "value", MctsStarSettings(mode="collect"), Budget(iterations=8)
    )
    training = TrainPolicyPhase("policy-1", 1, "base", TrainingSettings(), ("collect",), "train")
    run.do([with_tools(collect), with_tools(training)])
    rows = run.dataset("policy-1")
    assert sum(row["tree_id"] is None for row in rows) == len(PROBLEMS["train"]) < len(rows)
    for row in rows:
        check_row(row)
        assert 1.0 in row["weights"]
    assert faults(run.database, run.run_id) == []


def test_what_no_machine_answers_is_undecided_and_counted(handled_run: Any, python: Callable[..., None]) -> None:
    python(ProgramOutput("", "no program is run here; missing: Landlock", is_known=False))
    counted = ("restmcts_tool_calls_total", {"outcome": "undecided"})
    before = REGISTRY.get_sample_value(*counted) or 0.0
    run = handled_run({"base": Calling(answer_rate=0.2)}, PROBLEMS)
    search = SelfConsistencySettings(num_samples=4)
    run.do([with_tools(SearchPhase("collect", 1, "collect", "train", "base", None, search))])
    statement = select(NODES.c.verdict, NODES.c.reason, NODES.c.final)
    with run.database.transaction() as transaction:
        found = transaction.execute(statement.where(NODES.c.step.like("not answered%"))).all()
    reason = "a tool was not answered: no program is run here; missing: Landlock"
    assert found and set(found) == {("undecided", reason, True)}
    assert (REGISTRY.get_sample_value(*counted) or 0.0) > before
    assert faults(run.database, run.run_id) == []


def test_regrading_makes_the_same_verdicts_and_labels(handled_run: Any) -> None:
    run = handled_run({"base": Calling(answer_rate=0.3)}, PROBLEMS)
    run.do([with_tools(phase) for phase in METHODS.get("rest-mcts").first_value(RUN, "base")])
    with run.database.transaction() as transaction:
        (name,) = [row.name for row in queries.list_runs(transaction)]
    with AnswerVerifier() as verifier:
        found = regrade(run.database, verifier, "the same", name, "again")
    assert found.num_trees == len(PROBLEMS["train"])
    assert found.num_labels > 10
    assert (found.num_verdicts_changed, found.num_labels_changed) == (0, 0)


def test_a_stored_tree_is_read_as_it_was_searched(handled_run: Any) -> None:
    run = handled_run({"base": Calling(answer_rate=0.3), "value": Calling()}, PROBLEMS)
    search = MctsStarSettings(mode="collect", keep_rollouts=True)
    phase = SearchPhase("collect", 1, "collect", "train", "base", "value", search, Budget(iterations=6))
    run.do([with_tools(phase), TrainValuePhase("value-1", 1, None, "base", TrainingSettings(), ("collect",))])
    with run.database.transaction() as transaction:
        ids = list(transaction.execute(select(TREES.c.id)).scalars())
        loaded = trees.load_trees(transaction, ids)
    assert any(node.observed and node.from_rollout for tree in loaded.values() for node in tree.nodes)
    for tree in loaded.values():
        for node in tree.nodes:
            assert not node.observed or node.from_rollout == tree[node.parent_id or 0].from_rollout
            assert not node.observed or (node.num_tokens, node.log_prob) == (0, 0.0)


def test_an_answer_is_one_line_of_so_many_characters() -> None:
    with AnswerVerifier() as verifier:
        cut = verifier.answer_call(CallTool(4, ("so\n", "calc: 10**9\n"), "math", 10))
        broken = verifier.answer_call(CallTool(5, ("this is no call\n",), "number-paths", 100))
    assert (cut.number, cut.text, cut.is_known) == (4, "result: 10…", True)
    assert (broken.text, broken.is_known) == ("not answered: InputError: no tool answers 'this is no call'", False)
