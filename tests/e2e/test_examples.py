"""The example extensions, each one file, through `selftrain`; killed on the way, and resumed."""

import json
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from restmcts.domain.tasks.number_paths import SetSizes, make_problem_sets
from restmcts.testing.forked_commands import ForkedCommand
from restmcts.testing.prm_models import make_config, make_tokenizer, save
from transformers import AutoModelForTokenClassification

EXAMPLES = Path(__file__).parents[2] / "examples"
MAX_LINES = 40
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., ForkedCommand]


def one(workdir: Path, query: str) -> int:
    """Return the single number that a query of the stored run gives; 0 while there is no table."""
    try:
        connection = sqlite3.connect(f"file:{workdir / 'run.db'}?mode=ro", uri=True)
        try:
            return int(connection.execute(query).fetchone()[0])
        finally:
            connection.close()
    except sqlite3.OperationalError:
        return 0


def num_errors(stderr: str) -> int:
    return sum(line.startswith("error: ") for line in stderr.splitlines())


def answered(workdir: Path) -> int:
    return one(workdir, "SELECT count(*) FROM requests WHERE state = 'applied'")


def anagrams(folder: Path) -> Path:
    """Return a file of problems in the form that the example task reads."""
    words = [f"{first}a{last}" for first in "bcfhmp" for last in "dt"]
    rows = [{"kind": "anagrams", "letters": word[::-1], "word": word} for word in words]
    path = folder / "anagrams.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def demonstrations(folder: Path) -> Path:
    """Return a file of puzzles with solutions, from which a first policy can learn."""
    sizes = SetSizes(demonstrations=40, iterations=0, searched=0, test=0, validation=0)
    sets = make_problem_sets(random.Random(0), sizes)
    path = folder / "puzzles.jsonl"
    path.write_text("".join(json.dumps(asdict(problem)) + "\n" for problem in sets.demonstrations))
    return path


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_is_one_short_file(example: str) -> None:
    assert len((EXAMPLES / example).read_text(encoding="utf-8").splitlines()) <= MAX_LINES


# A policy that has seen some solutions, so that its own can be right.
TAUGHT = [f"seed_training.{one}" for one in ("num_steps=70", "learning_rate=3e-3", "optimizer=muon", "batch_size=32")]


@pytest.mark.parametrize(
    ("example", "options", "proof"),
    [
        (
            "hard_first_learner.py",
            (
                "--learner",
                "hard-first",
                "-l",
                "power=2",
                "--method",
                "rest-em",
                "--budget-iterations",
                4,
                *(f"--set={one}" for one in TAUGHT),
            ),
            """SELECT json_extract(result, '$.num_targets') FROM phases
            WHERE name = 'policy-1' AND result LIKE '%"trained": true%'""",
        ),
        (
            "likeliest_search.py",
            ("--algorithm", "likeliest", "-o", "num_samples=6"),
            """SELECT count(*) FROM trees t JOIN phases p ON p.id = t.phase_id
            WHERE p.name = 'collect-1' AND t.model_calls = 6 AND t.state = 'labelled'""",
        ),
        (
            "two_budgets_method.py",
            ("--method", "two-budgets", "--budget-iterations", 2),
            """SELECT count(*) FROM trees t JOIN phases p ON p.id = t.phase_id
            WHERE p.name = 'again-1' AND t.model_calls = 4 AND t.state = 'labelled'""",
        ),
        (
            "anagrams_task.py",
            ("--method", "rest-mcts-paper", "--budget-iterations", 2),
            """SELECT count(*) FROM nodes n JOIN trees t ON t.id = n.tree_id JOIN phases p ON p.id = t.phase_id
            WHERE p.name = 'bootstrap' AND n.step LIKE 'Word: %' AND n.verdict = 'right'""",
        ),
    ],
)
def test_an_example_runs_is_killed_and_resumes_with_its_plugin_alone(
    restmcts: Run,
    start: Start,
    random_policy: Path,
    tmp_path: Path,
    example: str,
    options: tuple[object, ...],
    proof: str,
) -> None:
    plugin = tmp_path / example
    shutil.copy(EXAMPLES / example, plugin)
    workdir, log = tmp_path / "work", tmp_path / "log"
    problems, policy = ("demo:20", "number-paths") if "task" not in example else (anagrams(tmp_path), random_policy)
    problems = demonstrations(tmp_path) if "learner" in example else problems
    typed = ["selftrain", problems, "--policy", policy, "--workdir", workdir, "--held-out", 0, *options]
    typed += ["--trees-in-flight", 4, "--max-solution-tokens", 24, "--max-step-tokens", 8, "--epochs", 1]

    process = start(log, *typed, "--plugin", plugin)
    while answered(workdir) < 6 and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, log.read_text()
    process.kill()
    process.wait()
    known = answered(workdir)

    without = restmcts(*typed)
    assert (without.returncode, num_errors(without.stderr)) == (2, 1)
    assert f"was made with the plugin {example}: name it again, --plugin {example}" in without.stderr
    plugin.write_text(plugin.read_text() + "# changed\n")
    changed = restmcts(*typed, "--plugin", plugin)
    assert (changed.returncode, num_errors(changed.stderr)) == (2, 1)
    assert f"was made with another {example}" in changed.stderr
    assert answered(workdir) == known

    shutil.copy(EXAMPLES / example, plugin)
    resumed = restmcts(*typed, "--plugin", plugin)
    assert resumed.returncode == 0, resumed.stderr
    assert one(workdir, proof) > 10
    assert one(workdir, "SELECT count(*) FROM phases WHERE state NOT IN ('done', 'skipped')") == 0


def test_a_reward_model_format_scores_by_its_plugin_alone(
    restmcts: Run, puzzle_file: Path, puzzle_policy: Path, tmp_path: Path
) -> None:
    model, plugin = tmp_path / "model", EXAMPLES / "three_classes_format.py"
    torch.manual_seed(0)
    save(model, AutoModelForTokenClassification.from_config(make_config(num_labels=3)), make_tokenizer())
    without = restmcts("prm", "doctor", model)
    assert (without.returncode, num_errors(without.stderr)) == (2, 1)
    assert "not known as a process reward model" in without.stderr
    checked = restmcts("prm", "doctor", model, "--plugin", plugin, "--json")
    found = json.loads(checked.stdout)
    assert found["format"]["name"] == "three-classes"
    wrong = {check["check"] for check in found["checks"] if not check["right"]}
    assert wrong <= {"arithmetic"}, "of which random weights know nothing"

    typed = ["evaluate", puzzle_file, "--policy", puzzle_policy, "--value", model, "--out", tmp_path / "out"]
    typed += ["--methods", "best-first", "--budgets", "30", "--max-step-tokens", 8, "--limit", 4, "--json"]
    evaluated = restmcts(*typed, "--plugin", plugin)
    assert evaluated.returncode == 0, evaluated.stderr
    assert one(tmp_path / "out" / "work", "SELECT count(DISTINCT model_value) FROM nodes") > 10


def test_a_run_file_names_its_plugins(restmcts: Run, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "likeliest_search.py", tmp_path)
    run_file = tmp_path / "run.toml"
    run_file.write_text("plugins = ['likeliest_search.py']\n[search]\nalgorithm = 'likeliest'\nnum_sampels = 3\n")
    result = restmcts("selftrain", run_file, "--workdir", tmp_path / "work")
    assert result.returncode == 2
    assert "line 4: search.num_sampels: there is no such setting; did you mean 'num_samples'?" in result.stderr


def test_the_stack_refuses_plugin_files(restmcts: Run) -> None:
    result = restmcts(
        "runs",
        "create",
        "mine",
        "--policy",
        "p",
        "--plugin",
        EXAMPLES / "likeliest_search.py",
        "--algorithm",
        "likeliest",
    )
    assert (result.returncode, num_errors(result.stderr)) == (2, 1)
    assert "a stack runs only the plugins that are installed in its images" in result.stderr


def test_plugins_are_listed_with_their_origin(restmcts: Run) -> None:
    result = restmcts("plugins", "list", "--plugin", EXAMPLES / "likeliest_search.py")
    lines = [line.split() for line in result.stdout.splitlines()]
    origins = {(line[0], line[1]): line[-1] for line in lines if len(line) > 2}
    assert origins["searches", "likeliest"] == str(EXAMPLES / "likeliest_search.py")
    assert origins["searches", "mcts-star"] == "restmcts"
    assert origins["methods", "rest-em"] == "restmcts"
    assert origins["prm-formats", "math-shepherd"] == "restmcts"
