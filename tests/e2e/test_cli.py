"""What a person sees of `restmcts selftrain` when input is bad, the disk is full, or nothing
can be learnt.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
NUM_ROWS = 12


@pytest.fixture
def word_problems(tmp_path: Path) -> Path:
    """Rows in GSM8K's form: the solution and, after ####, the answer in one field."""
    path = tmp_path / "problems.jsonl"
    rows = [
        {
            "question": f"Ada has {number} pears and buys {number + 2} more. How many pears has she now?",
            "answer": f"She has {number} + {number + 2} = <<{number}+{number + 2}={2 * number + 2}>>{2 * number + 2} pears.\n"
            f"#### {2 * number + 2}",
        }
        for number in range(3, 3 + NUM_ROWS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def assert_one_line(result: "subprocess.CompletedProcess[str]", exit_code: int, *words: str) -> None:
    assert result.returncode == exit_code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and result.stderr.rstrip().splitlines()[-1] == errors[0]
    assert all(word in errors[0] for word in words), errors[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ("does not exist",)),
        ("", ("no usable problem", "empty")),
        ("not JSON\n", ("no usable problem", "line 1", "not JSON")),
        ('{"question": " ", "answer": "1"}\n', ("line 1", "blank")),
        ('{"answer": "1"}\n', ("line 1", "no question")),
        ('{"question": "1 + 1?"}\n', ("line 1", 'no "answer"')),
    ],
)
def test_a_file_without_problems_is_one_line_and_exit_code_2(
    content: str | None, words: tuple[str, ...], restmcts: Run, random_policy: Path, tmp_path: Path
) -> None:
    problems = tmp_path / "bad.jsonl"
    if content is not None:
        problems.write_text(content)
    result = restmcts("selftrain", problems, "--policy", random_policy, "--workdir", tmp_path / "work")
    assert_one_line(result, 2, str(problems), *words)
    assert not (tmp_path / "work" / "artifacts").exists()


def test_a_spent_token_budget_stops_in_one_line_and_a_larger_one_goes_on(
    restmcts: Run, random_policy: Path, word_problems: Path, tmp_path: Path
) -> None:
    options = (
        "--policy",
        random_policy,
        "--max-step-tokens",
        6,
        "--budget-iterations",
        3,
        "--workdir",
        tmp_path / "work",
    )
    stopped = restmcts("selftrain", word_problems, *options, "--max-tokens", 200)
    assert stopped.returncode == 1
    last = stopped.stderr.splitlines()[-1]
    assert last.startswith("error: run selftrain is paused: token budget of 200 spent (")
    assert last.endswith("to go on: this command with a larger --max-tokens")
    again = restmcts("selftrain", word_problems, *options)
    assert (again.returncode, again.stderr.splitlines()[-1]) == (1, last)
    assert_one_line(
        restmcts("selftrain", word_problems, *options, "--max-tokens", 200), 2, "raise that by --max-tokens"
    )
    done = restmcts("selftrain", word_problems, *options, "--max-tokens", 10**6)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work" / "report.html").is_file()


def test_a_spent_token_budget_stops_an_evaluation(
    restmcts: Run, random_policy: Path, word_problems: Path, tmp_path: Path
) -> None:
    typed = (
        "evaluate",
        word_problems,
        "--policy",
        random_policy,
        "--budgets",
        60,
        "--max-step-tokens",
        6,
        "--trees-in-flight",
        4,
        "--out",
        tmp_path / "out",
    )
    stopped = restmcts(*typed, "--max-tokens", 50)
    assert (stopped.returncode, "token budget of 50 spent" in stopped.stderr) == (1, True)
    done = restmcts(*typed, "--max-tokens", 10**6)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("--policy", "no/such-model-here"), ("no/such-model-here",)),
        (("--policy", "{policy}", "--iterations", "0"), ("--iterations: iterations is 0", "at least 1")),
        (("--policy", "{policy}", "--value", "{policy}"), ("not known as a process reward model",)),
        (("--policy", "{policy}", "--algorithm", "alpha-beta"), ("alpha-beta",)),
        (("--policy", "{policy}", "-o", "branch=0"), ("branch",)),
        (("--policy", "{policy}", "-o", "bananas=3"), ("bananas",)),
        (("--policy", "{policy}", "--temperature", "-1"), ("temperature",)),
    ],
)
def test_settings_that_cannot_be_used_are_one_line_and_exit_code_2(
    typed: tuple[str, ...],
    words: tuple[str, ...],
    restmcts: Run,
    random_policy: Path,
    word_problems: Path,
    tmp_path: Path,
) -> None:
    typed = tuple(text.replace("{policy}", str(random_policy)) for text in typed)
    result = restmcts("selftrain", word_problems, *typed, "--workdir", tmp_path / "work")
    assert_one_line(result, 2, *words)
    assert not (tmp_path / "work" / "artifacts").exists()


def test_a_folder_that_a_run_with_other_settings_holds_is_left_alone(
    restmcts: Run, random_policy: Path, word_problems: Path, tmp_path: Path
) -> None:
    typed = [
        "selftrain",
        word_problems,
        "--limit",
        1,
        "--policy",
        random_policy,
        "--max-step-tokens",
        4,
        "--workdir",
        tmp_path / "w",
    ]
    typed += ["--budget-iterations", 1]
    assert restmcts(*typed).returncode == 0
    assert_one_line(restmcts(*typed, "--seed", 3), 2, "other settings", "seed")


def test_a_random_model_solves_nothing_and_the_report_says_so(
    restmcts: Run, random_policy: Path, word_problems: Path, tmp_path: Path
) -> None:
    with word_problems.open("a") as file:
        file.write("broken\n")
    typed = (
        "--policy",
        random_policy,
        "--max-step-tokens",
        6,
        "--budget-iterations",
        3,
        "--workdir",
        tmp_path / "work",
    )
    result = restmcts("selftrain", word_problems, *typed, "--json")
    assert result.returncode == 0, result.stderr
    assert f"line {NUM_ROWS + 1}: not JSON; passed over" in result.stderr
    numbers = json.loads(result.stdout.splitlines()[-1])
    last = numbers["iterations"][-1]
    num_searched = NUM_ROWS - NUM_ROWS // 10  # one in ten is held out for the gates
    assert (last["iteration"], last["trees"], last["solved"]) == (1, num_searched, 0) and last["tokens"] > 0
    said = " ".join(result.stderr.split())
    assert f"No problem was solved in {num_searched} trees" in said and "nothing was trained" in said
    assert "nothing was trained" in " ".join((tmp_path / "work" / "report.html").read_text().split())
    assert not list((tmp_path / "work" / "artifacts").glob("checkpoints/*/optimizer*"))


@pytest.mark.parametrize("max_bytes", [20_000, 150_000])
def test_a_full_disk_is_one_line_and_exit_code_1_and_leaves_nothing_half_written(
    max_bytes: int, restmcts: Run, random_policy: Path, word_problems: Path, tmp_path: Path
) -> None:
    """A limit on the size of files stands for the disk: no file may grow past it."""
    typed = (
        "--policy",
        random_policy,
        "--max-step-tokens",
        4,
        "--budget-iterations",
        2,
        "--workdir",
        tmp_path / "work",
    )
    result = restmcts("selftrain", word_problems, *typed, max_file_bytes=max_bytes)
    assert_one_line(result, 1)
    artifacts = [path for path in (tmp_path / "work").glob("artifacts/*/*") if path.is_dir()]
    assert all((path / "manifest.json").is_file() for path in artifacts)
    assert not list((tmp_path / "work").glob("artifacts/*/.partial-*"))
