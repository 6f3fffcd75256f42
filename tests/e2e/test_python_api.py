"""`import restmcts`: the notebook of the examples from the first cell to the last, and what the
functions refuse.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import restmcts
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings
from restmcts.errors import InputError

PAGE = Path(__file__).parents[2] / "docs/notebook.md"
NOTEBOOK = Path(__file__).parents[2] / "examples/from_python.ipynb"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The names that the notebook leaves behind."""
    names: dict[str, Any] = {}
    matplotlib.use("agg")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
        names["workdir"] = Path(names["workdir"]).resolve()
        yield names


@pytest.fixture
def run(played: dict[str, Any]) -> Iterator[restmcts.LoadedRun]:
    with restmcts.load_run("selftrain", played["workdir"]) as run:
        yield run


def test_a_run_made_from_python_has_its_settings_curves_models_and_data(run: restmcts.LoadedRun) -> None:
    assert run.spec is not None and run.spec.budget.tokens == 100 and run.spec.iterations == 1
    policy = [(point.series, point.iteration, point.num_problems) for point in run.curves if point.series == "policy"]
    assert policy == [("policy", 0, 20), ("policy", 1, 20)]
    assert not any(point.unchecked for point in run.curves)
    assert all(point.interval[0] <= point.accuracy <= point.interval[1] for point in run.curves)
    assert all(point.interval[0] < point.interval[1] for point in run.curves)
    spent = {point.iteration: point.tokens for point in run.curves}
    assert [spent[number] for number in sorted(spent)] == sorted(spent.values())
    assert all(point.tokens == spent[point.iteration] for point in run.curves), "of controls too"
    graded = {phase.name: phase.num_right / phase.num_done for phase in run.phases if phase.purpose == "evaluate"}
    assert [point.accuracy for point in run.curves] == list(graded.values())
    assert {"policy-1", "value-1"} <= {one.name for one in run.checkpoints}
    assert len(run.training_rows("value-1")) == next(one.num_rows for one in run.datasets if one.phase == "value-1")
    with pytest.raises(InputError, match="has no checkpoint 'policy-9'; it has base"):
        run.checkpoint_folder("policy-9")
    with pytest.raises(InputError, match="no training data of 'policy-9'"):
        run.training_rows("policy-9")


def test_an_evaluation_from_python_is_that_of_the_command(played: dict[str, Any]) -> None:
    outcomes = played["report"].outcomes
    assert [(one.method, one.problem) for one in outcomes] == [
        (method, number) for method in ("greedy", "best-first") for number in range(6)
    ]
    assert {row.method for row in played["report"].table.summaries()} == {"greedy", "best-first"}


def test_a_search_without_a_run_is_the_same_with_the_same_seed_and_outlives_its_folder(played: dict[str, Any]) -> None:
    tree = played["tree"]
    assert tree.nodes[0].step == "" and len(tree.nodes) == tree.facts["num_nodes"] + 1 > 1
    assert tree.tokens >= 60 or tree.facts["stop_reason"] != "budget"
    again = restmcts.search(
        played["policy"],
        played["value"],
        tree.question,
        algorithm="mcts-star",
        tokens=60,
        generation=GenerationSettings(**played["generation"]),
    )
    steps = [[(node.step, node.visits) for node in one.nodes] for one in (tree, again)]
    assert steps[0] == steps[1]


def test_a_search_of_a_problem_with_an_answer_has_verdicts(played: dict[str, Any]) -> None:
    question, answer = "Start: 3  Target: 5  Moves: +2 -1", "5"
    problem = Problem(question, answer, kind="number-paths")
    generation = GenerationSettings(**played["generation"])
    tree = restmcts.search(played["policy"], problem=problem, algorithm="greedy", generation=generation)
    assert {node.verdict for node in tree.nodes if node.final} <= {"right", "wrong"}


def test_bad_input_is_one_line_that_names_arguments(played: dict[str, Any]) -> None:
    policy, workdir = played["policy"], played["workdir"]
    with pytest.raises(
        InputError, match=r"reads at most 128 tokens.* e.g. generation.max_step_tokens 8 generation.max_solution"
    ):
        restmcts.search(policy, problem="1 + 1?", algorithm="greedy")
    with pytest.raises(InputError, match=r"iterations \(1 -> 2\).* choose another workdir"):
        restmcts.selftrain({**played["spec"], "iterations": 2}, workdir)
    with pytest.raises(InputError, match="no tools to call; leave out tool_calls"):
        restmcts.evaluate("demo:number-paths:2-3:3", policy, tool_calls=2)


def test_the_three_lines_of_the_page_run(played: dict[str, Any]) -> None:
    generation = GenerationSettings(**played["generation"])
    names = {**played, "problems": "demo:number-paths:2-3:3", "question": played["tree"].question}
    names["generation"] = generation
    example, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(example.splitlines()) == 3
    exec(compile(example, str(PAGE), "exec"), names)
    with names["run"] as resumed:
        assert resumed.state == "done"
    assert len(names["report"].outcomes) == 6
    assert names["tree"].question == names["question"]
