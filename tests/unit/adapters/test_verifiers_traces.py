"""Solutions as traces of the package `verifiers`, its traces and tasks as problems; what needs the
package itself runs where that is installed.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.files.dataset_formats import convert
from restmcts.adapters.files.problem_rows import problem_of_row
from restmcts.adapters.files.verifiers_traces import trace_record, tree_traces
from restmcts.adapters.sql.rows import ShownNode, TreeWithNodes
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.adapters.verification.verifiers_tasks import KIND, taskset_rows
from restmcts.domain.problems import Check, Verdict
from restmcts.errors import InputError

TASKSET = """
import verifiers.v1 as vf


class SumData(vf.TaskData):
    total: int


class SumTask(vf.Task[SumData]):
    @vf.reward
    async def is_stated(self, task, trace) -> float:
        return float(trace.last_reply.endswith(str(task.total)))

    @vf.reward(weight=3.0)
    async def is_short(self, trace) -> float:
        return 1.0 if len(trace.last_reply) < 20 else 0.5


class FileTask(vf.Task[SumData]):
    @vf.reward
    async def reads(self, trace, runtime) -> float:
        return 1.0


class Sums(vf.Taskset[SumTask]):
    def load(self):
        for first in range(3):
            yield SumTask(SumData(prompt=f"What is {first} + 2?", system_prompt="Add.", total=first + 2))


__all__ = ["Sums"]
"""


def node(node_id: int, parent_id: int | None, step: str, **known: Any) -> ShownNode:
    nothing = dict.fromkeys(ShownNode.__dataclass_fields__)
    default = {"depth": 1, "log_prob": -1.0, "num_tokens": 2, "final": False, "origin": "search"}
    return ShownNode(**{**nothing, **default, "node_id": node_id, "parent_id": parent_id, "step": step, **known})  # type: ignore[arg-type]


@pytest.fixture
def tree() -> TreeWithNodes:
    """Return a tree with a right solution through a call, a wrong one, and an undecided one."""
    nodes = [
        node(0, None, ""),
        node(1, 0, "calc: 3*9\n"),
        node(2, 1, "result: 27\n", origin="observation", num_tokens=0, log_prob=0.0),
        node(3, 2, "So.\n"),
        node(4, 3, "The answer is 27\n", final=True, verdict="right", score=1.0, quality_value=1.0),
        node(5, 0, "The answer is 12\n", final=True, verdict="wrong"),
        node(6, 1, "not answered: no sandbox\n", origin="observation", final=True, verdict="undecided"),
    ]
    nothing: dict[str, Any] = dict.fromkeys(TreeWithNodes.__dataclass_fields__)
    known = {
        "id": 7,
        "run": "demo",
        "phase": "collect-1",
        "problem": 4,
        "question": "What is 3 * 9?",
        "true_answer": "27",
    }
    return TreeWithNodes(**{**nothing, **known, "nodes": nodes})


def test_a_solution_is_a_chain_of_messages_in_which_no_observation_is_sampled(tree: TreeWithNodes) -> None:
    right, wrong, undecided = tree_traces(tree)
    assert [
        (one["parent"], one["message"]["role"], one["message"]["content"], one["sampled"]) for one in right["nodes"]
    ] == [
        (None, "user", "What is 3 * 9?", False),
        (0, "assistant", "calc: 3*9\n", True),
        (1, "user", "result: 27\n", False),
        (2, "assistant", "So.\nThe answer is 27\n", True),
    ]
    assert right["task"]["data"] == {"idx": 4, "answer": "27", "prompt": "What is 3 * 9?"}
    assert [one["rewards"]["restmcts"] for one in (right, wrong, undecided)] == [
        {"score": 1.0, "weight": 1.0},
        {"score": 0.0, "weight": 1.0},
        None,
    ]
    assert right["id"] == "demo-7-4"
    assert [step["quality_value"] for step in right["info"]["steps"]] == [None, None, None, 1.0]


def test_a_policys_data_are_traces_without_those_of_parts(tree: TreeWithNodes) -> None:
    row = {
        "question": "q",
        "steps": ["calc: 1\n", "result: 1\n", "so\n"],
        "weights": [1.0, None, 1.0],
        "finished": True,
    }
    given = row | {"values": [None] * 3, "tree_id": None}
    searched = row | {"values": [0.4, 0.4, 0.25], "tree_id": 3}
    part = searched | {"finished": False}
    traces = list(convert([given, part, searched], "verifiers"))
    assert [trace["rewards"]["restmcts"]["score"] for trace in traces] == [1.0, 0.25]
    assert [[one["sampled"] for one in trace["nodes"]] for trace in traces] == [[False, True, False, True]] * 2


def test_a_trace_is_read_as_the_problem_of_its_task(tree: TreeWithNodes) -> None:
    for trace in tree_traces(tree):
        problem = problem_of_row(json.loads(json.dumps(trace)))
        assert (problem.question, problem.answer, problem.kind) == ("What is 3 * 9?", "27", "math")
    chat = [{"role": "user", "content": [{"type": "text", "text": "What is 3 * 9?"}]}]
    record = trace_record("x", "", [], None) | {
        "task": {"type": "T", "data": {"prompt": chat, "system_prompt": "Add.", "answer": 27}}
    }
    assert problem_of_row(record).question == "Add.\n\nWhat is 3 * 9?"
    with pytest.raises(InputError, match="is blank"):
        problem_of_row(record | {"task": {"type": "T", "data": {"answer": "27"}}})


def test_a_taskset_without_its_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("verifiers", "verifiers.v1"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match="the package verifiers is not installed here"):
        next(taskset_rows("sums"))


def test_a_problem_that_holds_no_task_is_undecided() -> None:
    with AnswerVerifier() as verifier:
        for answer in (None, "27", "{}", "[1]"):
            (found,) = verifier.judge([Check("q", answer, KIND, "The answer is 27\n")])
            assert (found.verdict, found.reason) == (Verdict.UNDECIDED, "the problem holds no task of verifiers")


@pytest.fixture
def taskset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A taskset that is installed, in three tasks."""
    pytest.importorskip("verifiers.v1")
    (tmp_path / "sums_of_two.py").write_text(TASKSET)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("sums_of_two", None)


def test_the_package_reads_what_is_exported(tree: TreeWithNodes) -> None:
    package = pytest.importorskip("verifiers.v1")
    traces = [package.WireTrace.model_validate(json.loads(json.dumps(one))) for one in tree_traces(tree)]
    assert [trace.reward for trace in traces] == [1.0, 0.0, 0.0]
    assert [trace.num_branches for trace in traces] == [1, 1, 1]
    assert [message.content for message in traces[0].assistant_messages] == ["calc: 3*9\n", "So.\nThe answer is 27\n"]
    assert traces[0].to_record()["info"]["node"] == 4


def test_a_taskset_is_problems_whose_rewards_verify(taskset: Path) -> None:
    problems = [problem_of_row(row) for row in taskset_rows("sums-of-two")]
    assert [problem.question for problem in problems] == [f"Add.\n\nWhat is {first} + 2?" for first in range(3)]
    assert {problem.kind for problem in problems} == {KIND}
    solutions = {"It is 3": (Verdict.RIGHT, 1.0), "It is 4": (Verdict.WRONG, 0.75), "x" * 30: (Verdict.WRONG, 0.375)}
    with AnswerVerifier() as verifier:
        for solution, expected in solutions.items():
            (found,) = verifier.judge([Check(problems[1].question, problems[1].answer, KIND, solution)])
            assert (found.verdict, found.score) == expected
            assert "is_short" in found.reason
        stored = json.loads(problems[1].answer or "")
        needs = json.dumps(stored | {"task": "sums_of_two:FileTask"})
        (found,) = verifier.judge([Check(problems[1].question, needs, KIND, "It is 3")])
        assert (found.verdict, found.reason) == (Verdict.UNDECIDED, "a reward needs a runtime, which there is not")


def test_a_taskset_that_is_not_installed_is_named(taskset: Path) -> None:
    with pytest.raises(InputError, match="taskset nothing-of-it: taskset 'nothing-of-it' not found"):
        next(taskset_rows("nothing-of-it"))
