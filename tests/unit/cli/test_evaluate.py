"""What a person may ask of `evaluate` and `pool`, and what they are told."""

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.stats.estimates import Estimate
from restmcts.domain.stats.outcomes import Outcome, OutcomeTable
from restmcts.errors import InputError
from restmcts.reporting.run_origins import RunOrigin
from restmcts_cli.arguments.answering_methods import parse_methods
from restmcts_cli.arguments.benchmarks import BENCHMARKS, Benchmark, benchmark_named
from restmcts_cli.commands.learning import evaluate
from restmcts_cli.reports import evaluation_report
from restmcts_cli.reports.evaluation_report import document, read_files, write_files
from restmcts_cli.reports.evaluation_tables import EvaluationReport, summarise
from typer.testing import Result

Command = Callable[..., Result]
SERVER = "openai+http://me:pass-word@host/v1?model=m"
PLAIN = Benchmark("problems.jsonl")
HALF = Estimate(0.5, 0.05, 100)


def test_methods_are_named_changed_and_varied() -> None:
    methods = parse_methods("greedy,wide=mcts-star,best-of-n@orm", ["wide.branch=8", "wide.choose=leaf"], PLAIN)
    assert [method.name for method in methods] == ["greedy", "wide", "best-of-n@orm"]
    assert methods[1].search == MctsStarSettings(branch=8, choose="leaf")
    assert methods[2].value == "orm"


def test_a_benchmark_has_settings_that_an_option_changes() -> None:
    paths = BENCHMARKS["number-paths"]
    default, given = (
        parse_methods("mcts-star", options, paths)[0].search for options in ([], ["mcts-star.max_depth=4"])
    )
    assert default == MctsStarSettings(max_depth=9, roll_forward_steps=9)
    assert given == MctsStarSettings(max_depth=4, roll_forward_steps=9)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("magic", [], r"answering method is called 'magic'.* There are: best-first"),
        ("greedy", ["greedy"], "METHOD.setting=value"),
        ("greedy", ["greedy.depth=3"], "no option 'depth'"),
        ("greedy", ["mcts-star.branch=3"], "none of the methods"),
        ("mcts-star", ["mcts-star.branch=0"], "branch"),
    ],
)
def test_what_is_not_understood_is_said(text: str, options: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_methods(text, options, PLAIN)


def _outcomes(group: str, accuracies: dict[str, float], num_problems: int = 100) -> list[Outcome]:
    cells = [(name, budget, share) for name, share in accuracies.items() for budget in (50, 100)]
    return [
        Outcome(
            name,
            budget,
            "",
            group,
            0,
            p,
            "right" if p < share * num_problems else "wrong",
            True,
            budget,
            1,
            0,
            2,
            3,
            4,
            0.5,
        )
        for name, budget, share in cells
        for p in range(num_problems)
    ]


def _report(accuracies: dict[str, float]) -> EvaluationReport:
    outcomes = _outcomes("", accuracies)
    return EvaluationReport("problems.jsonl", {"seeds": [0]}, outcomes, OutcomeTable(outcomes), {1: HALF}, 1.0)


def test_every_share_of_the_document_has_its_interval() -> None:
    found = json.loads(json.dumps(document(_report({"best-of-n": 0.0})), allow_nan=False))
    method, matched = found["methods"][0], found["at_equal_tokens"][0]
    assert method["standard_error"] == 0.0 and method["interval"][0] == 0.0 < method["interval"][1]
    assert matched["accuracy"]["interval"] == method["interval"]
    assert found["pass_at_intervals"].keys() == found["pass_at"].keys()


def test_the_sentences_name_the_best_and_whether_it_is_noise() -> None:
    clear = summarise(_report({"best-first": 0.9, "best-of-n": 0.5, "mcts-star": 0.6}).table)
    assert clear[0].startswith("Under a limit of 50 tokens a problem, best-first is best (90.0 % ± 3.")
    assert "30.0 points above mcts-star" in clear[0] and "clearly more than noise" in clear[0]
    assert "The best that only samples is best-of-n, 40.0 points behind" in clear[0]
    level = summarise(_report({"best-first": 0.5, "best-of-n": 0.5}).table)
    assert "come out level at 50.0 %" in level[0]
    assert "there was one seed" in level[-1]


def test_answers_that_failed_are_counted_in_a_sentence_of_their_own() -> None:
    outcomes = [replace(one, verdict="failed") if one.problem < 7 else one for one in _outcomes("", {"best-of-n": 0.5})]
    sentences = summarise(OutcomeTable(outcomes))
    assert "14 of 200 answers failed and count as not right (best-of-n 14); restmcts ui shows why." in sentences
    assert not any("failed" in sentence for sentence in summarise(_report({"best-of-n": 0.5}).table))


def test_puzzles_of_the_demo_have_steps_as_long_as_their_benchmark() -> None:
    for source, name in (("demo:20", "number-paths"), ("demo:word-problems:3-5:20", "word-problems")):
        found, known = benchmark_named(source), BENCHMARKS[name]
        assert found.name == source and found.generation == known.generation


def test_files_hold_what_was_measured_and_are_read_back(tmp_path: Path) -> None:
    report = _report({"best-first": 0.9, "best-of-n": 0.5})
    without_budget = replace(report.outcomes[0], method="greedy", budget=None)
    report = replace(report, outcomes=[*report.outcomes, without_budget])
    write_files(report, tmp_path)
    numbers, outcomes = read_files(tmp_path)
    assert outcomes == list(report.outcomes)
    assert {(row["method"], row["budget"]): row["accuracy"] for row in numbers["methods"]}["best-first", 100] == 0.9
    with (tmp_path / "results.csv").open() as file:
        assert [row["accuracy"] for row in csv.DictReader(file)] == ["0.9", "0.9", "0.5", "0.5"]
    page = (tmp_path / "report.md").read_text()
    assert "| best-first | 50 | 90.0 % ± " in page and "pass@1" in page


def test_the_page_is_written_where_its_library_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_page, without = tmp_path / "with", tmp_path / "without"
    _written(with_page, {"best-first": 0.9, "<b>own</b>": 0.5})
    page = (with_page / "report.html").read_text()
    assert "90.0 % ± 3.0" in page and "&lt;b&gt;own&lt;/b&gt;" in page and "<b>own" not in page
    monkeypatch.setattr(evaluation_report, "find_spec", lambda name: None)
    _written(without, {"best-first": 0.9})
    assert (without / "report.md").is_file() and not (without / "report.html").exists()


def test_a_fault_of_the_page_is_not_taken_for_a_missing_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "restmcts.reporting.line_charts", None)
    monkeypatch.delitem(sys.modules, "restmcts_cli.reports.evaluation_page", raising=False)
    with pytest.raises(ImportError, match="line_charts"):
        _written(tmp_path / "out", {"best-first": 0.9})


def _written(folder: Path, accuracies: dict[str, float]) -> Path:
    folder.mkdir()
    write_files(_report(accuracies), folder)
    return folder


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (("--methods", "greedi"), "did you mean 'greedy'"),
        (("-o", "nothing.branch=2"), "none of the methods"),
        (("--budgets", "many"), "--budgets many: give whole numbers"),
        (("--seeds", "two"), "--seeds two: give whole numbers"),
        (("--verifiers-from", "gsm8k:no.jsonl"), "no.jsonl does not exist"),
        (("--iterations-of", "run"), "name either the model"),
    ],
)
def test_what_is_typed_is_checked_before_anything_is_read(
    call: Command, tmp_path: Path, typed: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reads(*_: object, **__: object) -> None:
        raise AssertionError("problems were read")

    monkeypatch.setattr(evaluate, "read_benchmark", reads)
    asked = ("evaluate", "gsm8k", "--policy", "someone/model", "--out", tmp_path / "out", *typed)
    assert expected in str(call(*asked).exception)


def test_pooled_evaluations_are_one_table(call: Command, tmp_path: Path) -> None:
    folders = [_written(tmp_path / name, {"a": share}) for name, share in (("x", 0.4), ("y", 0.8))]
    result = call("pool", *folders, "--out", tmp_path / "all", "--json")
    assert result.exit_code == 0, result.output
    pooled = json.loads(result.stdout)
    assert pooled["num_problems"] == 200
    assert [row["accuracy"] for row in pooled["methods"]] == pytest.approx([0.6, 0.6])
    assert {asdict(outcome)["group"] for outcome in read_files(tmp_path / "all")[1]} == {"x", "y"}


def test_evaluations_of_other_methods_are_not_pooled(call: Command, tmp_path: Path) -> None:
    folders = [_written(tmp_path / name, {method: 0.4}) for name, method in (("x", "a"), ("y", "b"))]
    result = call("pool", *folders, "--out", tmp_path / "all")
    assert isinstance(result.exception, InputError) and "in one of them only" in str(result.exception)
    missing = call("pool", tmp_path / "nothing", "--out", tmp_path / "all")
    assert isinstance(missing.exception, InputError) and "no evaluation that has ended" in str(missing.exception)


@dataclass
class Stored:
    """A stored evaluation that asked a server."""

    name: str = "evaluation"
    config: dict[str, Any] = field(default_factory=lambda: {"seeds": [0], "checkpoints": {"policy": SERVER}})
    provenance: tuple[dict[str, Any], ...] = (
        {"when": "2026", "command": "restmcts evaluate gsm8k --policy x", "versions": {"python": "3"}, "machine": {}},
    )
    created_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    finished_at: datetime = datetime(2026, 1, 2, tzinfo=UTC)


def test_files_say_where_an_evaluation_comes_from_without_secrets(tmp_path: Path) -> None:
    stored = Stored()
    origin = RunOrigin(stored, datetime(2026, 1, 1, 12, tzinfo=UTC))
    write_files(replace(_report({"greedy": 0.5}), config=stored.config, origin=origin), tmp_path)
    texts = [(tmp_path / name).read_text() for name in ("report.md", "report.html", "results.json")]
    for text in texts[:2]:
        assert "Where this evaluation comes from" in text and "2026-01-02 00:00:00" in text
    for text in texts:
        assert "restmcts evaluate gsm8k --policy x" in text
        assert "openai+http://***@host" in text and "pass-word" not in text
    assert json.loads(texts[2])["origin"]["finished_at"] == "2026-01-02T00:00:00+00:00"


def test_pooled_evaluations_have_no_common_origin(tmp_path: Path) -> None:
    write_files(_report({"greedy": 0.5}), tmp_path)
    assert "Where this" not in (tmp_path / "report.md").read_text() + (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "results.json").read_text())["origin"] is None
