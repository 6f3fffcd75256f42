"""The comparison's statistics and its table, from outcomes that are known; and what the command
refuses.
"""

import json
import random
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state.runs import create_run
from restmcts.adapters.sql.state.trees import RUNS
from restmcts.domain.stats.estimates import Figure
from restmcts_cli.commands.learning.compare import seeds_of
from restmcts_cli.main import app
from restmcts_cli.reports.comparison_report import (
    MethodComparison,
    MethodRun,
    SeedRuns,
    json_line,
    markdown_table,
    method_summaries,
)
from restmcts_cli.reports.run_results import common_origin
from sqlalchemy import update
from typer.testing import CliRunner


def outcomes(seed: int, share: float, count: int = 200) -> Figure:
    draw = random.Random(seed)
    return Figure.of([draw.random() < share for _ in range(count)])


def gate(number: int, auc: float, promoted: bool) -> dict[str, object]:
    figures = {"auc": {"candidate": {"value": auc, "standard_error": 0.01}}, "sibling accuracy": {"candidate": None}}
    return {"model": "value", "iteration": number, "promoted": promoted, "figures": figures}


def comparison() -> MethodComparison:
    seeds = []
    for seed in range(3):
        gates = (gate(0, 0.6, True), gate(1, 0.7 + seed / 100, True), gate(2, 0.65, False))
        ours = MethodRun((outcomes(seed, 0.5), outcomes(seed, 0.6)), (10, 20), 140.0, (120.0, 130.0), gates)
        twice = [
            MethodRun((outcomes(seed + repeat, 0.5), None), (10, 0), 0.0, (125.0, 131.0), (), outcomes(repeat, 0.8))
            for repeat in (10, 50)
        ]
        methods = {"rest-mcts": (replace(ours, solved=outcomes(seed, 0.7)),), "rest-em": tuple(twice)}
        seeds.append(
            SeedRuns(seed, outcomes(seed + 20, 0.3), (outcomes(seed + 30, 0.3), outcomes(seed + 40, 0.3)), methods)
        )
    return MethodComparison("puzzle", ("rest-mcts", "rest-em"), 2, 110, False, tuple(seeds), 8)


def test_methods_are_paired_with_the_control_and_the_first_method() -> None:
    rows = {row.name: row for row in method_summaries(comparison())}
    assert list(rows) == ["first policy", "control", "rest-mcts", "rest-em"]
    assert rows["rest-mcts"].over_control is not None
    assert rows["rest-mcts"].over_control.in_standard_errors > 3
    assert rows["rest-mcts"].over_first_method is None
    assert rows["rest-em"].tokens == (125.0, 131.0)
    assert rows["rest-mcts"].rejected == {"policy": 0, "value": 3}
    # An iteration without a policy leaves the one before it.
    assert rows["rest-em"].accuracy[1] == rows["rest-em"].accuracy[0]


def test_the_table_and_the_numbers_say_the_same() -> None:
    text = markdown_table(comparison())
    document = json.loads(json_line(comparison()))
    last = document["methods"][2]["accuracy"][1]
    assert last["error_over"] == "problems and seeds"
    assert f"{100 * last['value']:.1f} % ± {100 * last['standard_error']:.1f}" in text
    assert "auc of V_0 → V_2 on held-out trees: 0.600 ± 0.006 → 0.710 ± 0.006 → 0.650 ± 0.006" in text
    assert document["values"]["rest-em"] == {}
    assert "| pass@8 |" in text.replace("  ", " ")


def test_every_training_is_one_row_of_the_accuracies_and_the_table_has_their_mean() -> None:
    found = comparison()
    rows = json.loads(json_line(found))["accuracies"]
    places = [(row["method"], row["seed"], row.get("repeat"), row["iteration"]) for row in rows]
    assert len(set(places)) == len(rows) == 3 * (3 + 3 + 2 * 3)
    last = [row for row in rows if row["method"] == "rest-em" and row["iteration"] == 2]
    assert all(row["tokens"] == 131.0 and row["pass@8"] is not None for row in last)
    mean = sum(row["accuracy"] for row in last) / len(last)
    assert method_summaries(found)[3].accuracy[1].value == pytest.approx(mean)


def runs(workdir: Path, *starts: tuple[str, str, str | None]) -> tuple[Database, list[int]]:
    """Return a database with runs, each by its command, when it was stored and when it ended."""
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    database.create_tables()
    ids = []
    with database.transaction() as transaction:
        for number, (command, when, end) in enumerate(starts):
            run_id = create_run(transaction, f"run-{number}", "rest-mcts", number, {"spec": {"policy": "m"}})
            start = {"when": when, "command": command, "versions": {"python": "3"}, "machine": {"cores": 2}}
            ended = datetime.fromisoformat(end) if end else None
            values = {"provenance": [start], "finished_at": ended}
            transaction.connection.execute(update(RUNS).where(RUNS.c.id == run_id).values(values))
            ids.append(run_id)
    return database, ids


def test_a_comparison_says_what_all_of_its_runs_were_made_with(tmp_path: Path) -> None:
    first, second = "restmcts compare --seeds 2", "restmcts compare --seeds 3"
    ends = ("2026-01-02T10:00:00+00:00", "2026-01-02T12:00:00+00:00", "2026-01-02T11:00:00+00:00")
    whens = ("2026-01-01T10:00:00+00:00", "2026-01-01T11:00:00+00:00", "2026-01-02T09:00:00+00:00")
    database, ids = runs(tmp_path, *zip((first, first, second), whens, ends, strict=True))
    found = replace(comparison(), origin=common_origin(database, ids))
    database.close()
    text, document = markdown_table(found), json.loads(json_line(found))
    assert "## Where this comparison comes from" in text
    assert f"| command | {first} |" in text and f"| continued (1) | 2026-01-02 09:00:00 UTC: {second} |" in text
    assert "| changed settings | policy = m |" in text and "| ended (UTC) | 2026-01-02 12:00:00 |" in text
    assert [one["command"] for one in document["origin"]["provenance"]] == [first, second]


def test_a_comparison_has_not_ended_while_one_of_its_runs_has_not(tmp_path: Path) -> None:
    when = "2026-01-01T10:00:00+00:00"
    database, ids = runs(tmp_path, ("restmcts compare", when, when), ("restmcts compare", when, None))
    lines = common_origin(database, ids).lines()
    database.close()
    assert (lines["ended (UTC)"], "continued (1)" in lines) == ("not yet", False)


@pytest.mark.parametrize(("text", "seeds"), [("3", (0, 1, 2)), ("20,21", (20, 21)), ("7,", (7,)), (" 1 , 0 ", (1, 0))])
def test_seeds_are_a_count_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert seeds_of(text) == seeds


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--methods", "rest-mcts,sarsa"), "'sarsa'; did you mean 'star'? There are: math-shepherd"),
        (("--methods", "rest-em,rest-em"), "names one twice"),
        (("--seeds", "two"), "give a count such as 3, or a list such as 20,21,22"),
        (("--seeds", "0"), "at least one seed"),
        (("--seeds", "4,4"), "none twice"),
        (("--difficulty", "8-5"), "a range from 1 to 8 such as 2-8, not '8-5'"),
        (("--policy", "some/model"), "go with PROBLEMS"),
        (("problems.jsonl", "--quick"), "--quick is the puzzle's"),
        (("problems.jsonl",), "give --policy, --test and --budget-tokens"),
    ],
)
def test_bad_arguments_are_one_line(arguments: tuple[str, ...], expected: str) -> None:
    assert expected in str(CliRunner().invoke(app, ["compare", *arguments]).exception)
