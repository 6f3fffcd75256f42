"""Steps that call tools: a task of one file whose problems need a calculator, through `selftrain`,
killed on the way, and resumed; then its evaluation, and its trees in the viewer.
"""

import json
import re
import runpy
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.testing.forked_commands import ForkedCommand
from restmcts.testing.runs import faults, stored_rows

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., ForkedCommand]
TASK = '''
"""Sums in the words of number paths: a line `3 + 4 =` is a call, the next line its answer."""

import re

from restmcts.domain.problems import Check, Verdict
from restmcts.domain.tasks.task import TASKS, Judgement, Observed, Task, Tools, judged
from restmcts.domain.tasks.tool_lines import calculate

CALL = re.compile(r"\\d+ \\+ \\d+ =")


class Sums(Task):
    def calls(self, step: str) -> bool:
        return CALL.fullmatch(step.strip()) is not None

    def observe(self, step: str, tools: Tools) -> Observed:
        return Observed(calculate(step.strip().removesuffix(" =")))

    def verify(self, check: Check, tools: Tools) -> Judgement:
        found = self.stated(check.solution)
        return judged(Verdict.RIGHT if found == check.answer else Verdict.WRONG)


TASKS.add("sums", Sums())
'''
TAUGHT = ("num_steps=150", "learning_rate=3e-3", "optimizer=muon", "batch_size=32")


def served(start: Start, output: Path, workdir: Path, plugin: Path) -> str:
    """Start the viewer on a work folder; return its address."""
    process = start(output, "ui", "--workdir", workdir, "--plugin", plugin, "--port", 0)
    for _ in range(600):
        found = re.search(r"http://[0-9.:]+", output.read_text())
        if found is not None:
            return found.group()
        assert process.poll() is None, output.read_text()
        time.sleep(0.05)
    raise TimeoutError(output.read_text())


def fetched(address: str) -> str:
    with urllib.request.urlopen(address, timeout=20) as answer:
        return str(answer.read().decode())


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    """Return a file of sums with solutions, a call, its answer and the answer line each."""
    problems = []
    for first in range(1, 13):
        for move in (3, 7):
            lines = [f"{first} + {move} =", str(first + move), f"The answer is {first + move}"]
            question = f"Start: {first}  Moves: +{move}"
            problems.append({"kind": "sums", "question": question, "answer": str(first + move), "solution": lines})
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    return path


def test_a_policy_learns_to_call_a_tool_and_never_its_answers(
    restmcts: Run, start: Start, sums: Path, tmp_path: Path
) -> None:
    plugin, workdir, log = tmp_path / "sums_task.py", tmp_path / "work", tmp_path / "log"
    plugin.write_text(TASK)
    typed = ["selftrain", sums, "--policy", "number-paths", "--workdir", workdir, "--held-out", 0]
    typed += ["--plugin", plugin, "--method", "rest-em", "--budget-iterations", 4, "--epochs", 1]
    typed += ["--trees-in-flight", 4, "--max-solution-tokens", 24, "--max-step-tokens", 8]
    typed += [f"--set=seed_training.{one}" for one in TAUGHT] + ["--set=tools.max_calls=2"]

    answered = "SELECT count(*) FROM requests WHERE kind = 'call' AND state = 'applied'"
    process = start(log, *typed)
    while not sum(count for (count,) in stored_rows(workdir, answered)) and process.poll() is None:  # type: ignore[misc]
        time.sleep(0.01)
    assert process.poll() is None, log.read_text()
    process.kill()
    process.wait()
    resumed = restmcts(*typed)
    assert resumed.returncode == 0, resumed.stderr

    observed = stored_rows(
        workdir,
        """SELECT before.step, node.step, node.num_tokens, node.origin FROM nodes node JOIN nodes before
        ON before.tree_id = node.tree_id AND before.node_id = node.parent_id WHERE before.step LIKE '%+%='||char(10)""",
    )
    assert len(observed) > 10
    for call, answer, num_tokens, origin in observed:
        left, _, right = str(call).strip().removesuffix(" =").partition(" + ")
        assert (str(answer), num_tokens, origin) == (f"{int(left) + int(right)}\n", 0, "observation")
    (right,) = stored_rows(workdir, "SELECT count(*) FROM nodes WHERE final AND verdict = 'right'")
    assert int(str(right[0])) > 5

    runpy.run_path(str(plugin))
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    (run,) = stored_rows(workdir, "SELECT id FROM runs")
    assert faults(database, int(str(run[0]))) == []
    database.close()

    for phase in ("policy-0", "policy-1"):
        exported = tmp_path / f"{phase}.jsonl"
        result = restmcts(
            "datasets", "export", "selftrain", phase, exported, "--format", "weighted-steps", "--workdir", workdir
        )
        assert result.returncode == 0, result.stderr
        written = [json.loads(line) for line in exported.read_text().splitlines()]
        assert any(None in row["weights"] for row in written)
        for row in written:
            behind_calls = [step.endswith("=") for step in ["", *row["completions"][:-1]]]
            assert [weight is None for weight in row["weights"]] == behind_calls

    (tree,) = stored_rows(
        workdir, "SELECT tree_id FROM nodes WHERE origin = 'observation' ORDER BY tree_id DESC LIMIT 1"
    )
    shown = restmcts("trees", "show", *tree, "--workdir", workdir)
    assert " · observation" in shown.stdout

    page = served(start, tmp_path / "ui", workdir, plugin)
    assert "Start: " in fetched(f"{page}/trees/{tree[0]}")
    drawn = json.loads(fetched(f"{page}/trees/{tree[0]}/data"))
    nodes = [dict(zip(drawn["fields"], row, strict=True)) for row in drawn["nodes"]]
    assert {node["verdict"] for node in nodes if node["final"]} <= {"right", "wrong"}
    assert any(node["origin"] == "observation" for node in nodes)
    assert any(frame["kind"] == "call" for frame in json.loads(fetched(f"{page}/trees/{tree[0]}/frames")))

    pulled = restmcts("checkpoints", "pull", "selftrain", "policy-1", tmp_path / "policy", "--workdir", workdir)
    assert pulled.returncode == 0, pulled.stderr
    asked = ["evaluate", sums, "--policy", tmp_path / "policy", "--methods", "greedy,self-consistency", "--limit", 4]
    asked += ["--plugin", plugin, "--budgets", 60, "--max-step-tokens", 8, "--max-solution-tokens", 24]
    evaluated = restmcts(*asked, "--tool-calls", 2, "--out", tmp_path / "out", "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    methods = {row["method"]: row["accuracy"] for row in json.loads(evaluated.stdout)["methods"]}
    assert set(methods) == {"greedy", "self-consistency"} and max(methods.values()) > 0
    observed = stored_rows(tmp_path / "out" / "work", "SELECT count(*) FROM nodes WHERE origin = 'observation'")
    assert int(str(observed[0][0])) >= 4
    graded = stored_rows(
        tmp_path / "out" / "work", "SELECT count(*) FROM trees WHERE state = 'labelled' AND verdict IS NOT NULL"
    )
    assert graded[0][0]
