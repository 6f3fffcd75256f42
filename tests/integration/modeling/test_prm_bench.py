"""`restmcts prm bench`: files of every form, every format of models, scorers whose numbers are
known beforehand, and going on with what was scored.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.files.labelled_solutions import labelled_rows
from restmcts.adapters.files.problem_files import BadLine
from restmcts.domain.labels.labelled_solutions import LabelledSolution
from restmcts.domain.problems import Problem
from restmcts.modeling.checkpoints import new_value_model, save_checkpoint
from restmcts.modeling.prm.format import PRM_FORMATS
from restmcts.testing.knowing_judges import CONTEXT, knowing_judge
from restmcts.testing.policy_servers import PolicyServer
from restmcts.testing.prm_models import BUILDERS, build_causal, build_judge, build_trl
from restmcts_cli.main import app
from restmcts_cli.reward_models import sources
from typer.testing import CliRunner, Result

RIGHT = [
    Problem(f"What is {n} + 2, times 3?", None, (f"{n} + 2 = {n + 2}\n", f"{n + 2} * 3 = {3 * n + 6}\n", "So it is.\n"))
    for n in range(10, 22)
]


def process_bench(split: str) -> list[dict[str, Any]]:
    """Return every second solution with a wrong second step, as ProcessBench writes them."""
    rows = []
    for number, problem in enumerate(RIGHT):
        steps = [step.strip() for step in problem.solution or ()]
        if number % 2:
            steps[1] += "1"
        fields = {"generator": "nobody", "final_answer_correct": number % 2 == 0, "label": 1 if number % 2 else -1}
        rows.append({"id": f"{split}-{number}", "problem": problem.question, "steps": steps, **fields})
    return rows


@pytest.fixture(scope="module")
def call() -> Callable[..., Result]:
    """Call the command line in this process."""
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def shown(call: Callable[..., Result]) -> Callable[..., str]:
    """Call a command that must end well; return what it printed."""

    def run(*arguments: object) -> str:
        result = call(*arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    return run


@pytest.fixture(scope="module")
def document(shown: Callable[..., str]) -> Callable[..., Any]:
    """Call a command with --json; return its document."""
    return lambda *arguments: json.loads(shown(*arguments, "--json"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bench.jsonl"
    rows = [*process_bench("gsm8k"), *process_bench("math")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def knowing(of_right: float, of_wrong: float) -> PolicyServer:
    return PolicyServer(log_probs_of=knowing_judge(RIGHT, of_right, of_wrong), max_context=CONTEXT)


@pytest.mark.parametrize(
    ("of_right", "of_wrong", "f1", "area"),
    [(0.9, 0.1, 1.0, 1.0), (0.1, 0.9, 0.0, 0.0), (0.999, 0.998, 1.0, 1.0), (0.7, 0.7, 0.0, 0.5)],
    ids=["perfect", "inverted", "saturated", "constant"],
)
def test_scorers_get_the_numbers_that_they_must(
    document: Callable[..., Any], file: Path, of_right: float, of_wrong: float, f1: float, area: float
) -> None:
    with knowing(of_right, of_wrong) as server:
        found = document("prm", "bench", server.uri("openai", "&format=judge"), "--on", file)
    assert [split["split"] for split in found["splits"]] == ["gsm8k", "math"]
    assert found["mean_f1"] == pytest.approx(f1) and found["headline"] == {"name": "mean F1", "value": found["mean_f1"]}
    assert found["all"]["auc"]["value"] == pytest.approx(area)
    assert found["rule"] == "below" and "on gsm8k" in found["threshold_from"]
    assert found["tokens"] > 0 and found["tokens_per_second"] > 0
    assert bool(found["misses"]) is (f1 < 1.0)
    assert any("no better than chance" in sentence for sentence in found["says"]) is (area <= 0.5)


def test_a_given_threshold_is_kept_and_a_miss_shown_on_the_page(
    shown: Callable[..., str], file: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1]["problem"] += " <b>bold</b>"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with knowing(0.9, 0.6) as server:
        model = server.uri("openai", "&format=judge")
        said = shown("prm", "bench", model, "--on", file, "--threshold", "0.5", "--out", tmp_path / "out")
    assert "mean F1 0.0" in said and "as given" in said
    page = (tmp_path / "out" / "report.html").read_text()
    assert "&lt;b&gt;bold&lt;/b&gt;" in page and "step 2 is wrong" in page and "no wrong step" in page


def test_a_bench_is_gone_on_with_and_not_by_another_model(
    call: Callable[..., Any], document: Callable[..., Any], file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with knowing(0.9, 0.1) as server:
        model = server.uri("openai", "&format=judge")
        first = document("prm", "bench", model, "--on", file, "--out", out)
        asked = len(server.bodies)
        values = out / "values.jsonl"
        lines = values.read_text().splitlines(keepends=True)
        values.write_text("".join(lines[:-2]) + lines[-2][:10])
        again = document("prm", "bench", model, "--on", file, "--out", out)
        # The last two solutions have three steps each.
        assert len(server.bodies) == asked + 6
        assert {**again, "seconds": 0, "tokens_per_second": 0} == {**first, "seconds": 0, "tokens_per_second": 0} | {
            "says": again["says"]
        }
        other = call("prm", "bench", f"{model}&samples=2", "--on", file, "--out", out)
    assert other.exit_code != 0 and "of another model" in str(other.exception)


def one_row(folder: Path) -> Path:
    path = folder / "small.jsonl"
    rows = [
        {"problem": "What is 1 + 2?", "steps": ["1 + 2 = 3.", "So 3."], "label": -1},
        {"problem": "What is 2 + 2?", "steps": ["2 + 2 = 5.", "So 5."], "label": 0},
        {"problem": "What is 2 + 2?" * 200, "steps": ["2 + 2 = 4."], "label": -1},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", [*BUILDERS, "value", "judge", "implicit"])
def test_every_format_goes_through(document: Callable[..., Any], tmp_path: Path, name: str) -> None:
    model, options = tmp_path / "model", ""
    if name in BUILDERS:
        build, options = BUILDERS[name]
        build(model)
    elif name == "judge":
        build_judge(model)
        options = "?format=judge"
    elif name == "implicit":
        build_causal(model)
        build_causal(tmp_path / "reference")
        options = f"?format=implicit&reference={tmp_path / 'reference'}"
    else:
        build_causal(tmp_path / "policy")
        save_checkpoint(new_value_model(tmp_path / "policy", 0), model)
    found = document("prm", "bench", f"{model}{options}", "--on", one_row(tmp_path))
    assert found["format"] == name and found["rule"] == PRM_FORMATS.get(name).rule
    assert found["all"]["solutions"] == 3 and found["all"]["refused"] == 1, found
    assert found["tokens"] > 0 and any("refused by the model" in sentence for sentence in found["says"])
    assert found["rule"] == ("drop" if name in ("value", "thudm", "implicit") else "below")


def test_data_sets_of_the_hub_come_by_the_ordinary_loader(
    document: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    splits = ("gsm8k", "math", "olympiadbench", "omnimath")
    files = "".join(f"  - split: {split}\n    path: {split}.json\n" for split in splits)
    (hub / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    for split in splits:
        (hub / f"{split}.json").write_text(json.dumps(process_bench(split)))
    name, real_splits = sources.BENCHMARKS["processbench"]
    assert name == "Qwen/ProcessBench" and real_splits == splits
    monkeypatch.setitem(sources.BENCHMARKS, "processbench", (str(hub), splits))
    with knowing(0.9, 0.1) as server:
        model = server.uri("openai", "&format=judge")
        found = document("prm", "bench", model, "--on", "processbench", "--limit", "2")
        alone = document("prm", "bench", model, "--on", f"hub:{hub}", "--split", "omnimath", "--limit", "4")
    assert [split["split"] for split in found["splits"]] == list(splits) and found["mean_f1"] == 1.0
    assert found["all"]["solutions"] == 8 and alone["all"]["solutions"] == 4
    assert "too good by that" in alone["threshold_from"]


def read(*rows: dict[str, Any]) -> list[LabelledSolution | BadLine]:
    return list(labelled_rows(enumerate(rows, 1), "mine"))


def test_prmbench_is_read_as_its_authors_read_it() -> None:
    row = {
        "original_question": "Q",
        "modified_question": "Q, changed",
        "original_process": ["a", "b"],
        "modified_process": ["a", "b", "c", "d"],
        "error_steps": [2, 4],
        "idx": "p1",
        "classification": "redundency",
    }
    original, changed = read(row)
    assert isinstance(original, LabelledSolution) and isinstance(changed, LabelledSolution)
    assert (original.split, original.question, original.first_error) == ("correct", "Q", -1)
    assert changed.is_right == (True, False, True, False) and changed.first_error == 1
    assert len(read(row | {"classification": "circular"})) == 1
    (bad,) = read(row | {"classification": "circular", "error_steps": [5]})
    assert isinstance(bad, BadLine) and "5 of 4 steps" in bad.reason


def test_prmbench_is_scored_over_all_steps_at_its_authors_threshold(
    document: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for number, problem in enumerate(RIGHT):
        steps = [step.strip() for step in problem.solution or ()]
        wrong = [steps[0], f"{steps[1]}1", steps[2]]
        questions = {"original_question": problem.question, "modified_question": problem.question}
        processes = {"original_process": steps, "modified_process": wrong, "error_steps": [2], "idx": str(number)}
        rows.append({**questions, **processes, "classification": ["redundency", "circular"][number % 2]})
    folder = tmp_path / "prmbench"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setitem(sources.BENCHMARKS, "prmbench", (str(folder), ("train",)))
    with knowing(0.9, 0.1) as server:
        found = document("prm", "bench", server.uri("openai", "&format=judge"), "--on", "prmbench")
    assert found["threshold"] == 0.5 and found["headline"] == {"name": "PRMScore", "value": 1.0}
    assert {split["split"]: split["solutions"] for split in found["splits"]} == {
        "correct": 6,
        "redundency": 6,
        "circular": 6,
    }
    # The unchanged solutions are no part of the score.
    assert found["all"]["solutions"] == 12


def test_prm800k_and_math_shepherd_are_read() -> None:
    def step(rating: int | None, chosen: int | None = 0) -> dict[str, Any]:
        texts = [{"text": "first", "rating": rating}, {"text": "second", "rating": -1}]
        return {"completions": texts, "chosen_completion": chosen, "human_completion": None}

    human = {"completions": None, "chosen_completion": None, "human_completion": {"text": "by hand"}}
    row = {"question": {"problem": "Q"}, "label": {"steps": [step(1), human, step(0), step(-1)]}}
    (one,) = read(row)
    assert isinstance(one, LabelledSolution)
    assert one.steps == ("first\n", "by hand\n", "first\n", "first\n")
    assert one.is_right == (True, True, True, False) and one.first_error == 3
    (unknown,) = read(row | {"label": {"steps": [step(None), step(-1)]}})
    assert isinstance(unknown, LabelledSolution) and unknown.first_error is None
    shepherd = {
        "input": "What is 1 + 1? Step 1: 1 + 1 = 2. ки\nStep 2: The answer is: 3 ки",
        "label": "What is 1 + 1? Step 1: 1 + 1 = 2. +\nStep 2: The answer is: 3 -",
        "task": "GSM8K",
    }
    (two,) = read(shepherd)
    assert isinstance(two, LabelledSolution)
    assert two.question == "What is 1 + 1?" and two.split == "gsm8k"
    assert two.steps == ("Step 1: 1 + 1 = 2.\n", "Step 2: The answer is: 3\n") and two.is_right == (True, False)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"problem": "Q", "steps": ["a"], "label": 1}, "its label is 1"),
        ({"problem": "Q", "steps": ["a"], "label": True}, "its label is True"),
        ({"problem": "Q", "steps": [], "label": -1}, "no list of texts"),
        ({"problem": " ", "steps": ["a"], "label": -1}, "the question is missing"),
        ({"question": "Q", "answer": "1"}, "no labelled solution"),
        ({"input": "Q Step 1: a ки", "label": "Q Step 1: a ки", "task": "x"}, "neither + nor -"),
    ],
)
def test_a_row_that_is_none_says_why(row: dict[str, Any], reason: str) -> None:
    (bad,) = read(row)
    assert isinstance(bad, BadLine) and bad.line_number == 1 and reason in bad.reason


def test_what_cannot_be_benched_is_one_line(call: Callable[..., Any], tmp_path: Path) -> None:
    build_trl(tmp_path / "model")
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"question": "Q", "answer": "1"}\n')
    for arguments, said in [
        (("--on", "nothing", "--workdir", tmp_path), "contains no run"),
        (("--on", empty), "contains no labelled solution"),
        (("--on", one_row(tmp_path), "--choose-on", "math"), "no split 'math'"),
    ]:
        result = call("prm", "bench", tmp_path / "model", *arguments)
        assert result.exit_code != 0 and said in str(result.exception), result.output
