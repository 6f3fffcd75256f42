"""The comparison's statistics and its table, from outcomes that are known; and what the command
refuses.
"""

import json
import random

import pytest
from restmcts.domain.stats.estimates import Figure
from restmcts_cli.main import app
from restmcts_cli.reports.comparison_report import (
    MethodComparison,
    MethodRun,
    SeedRuns,
    json_line,
    markdown_table,
    method_summaries,
)
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
        methods = {
            "rest-mcts": MethodRun((outcomes(seed, 0.5), outcomes(seed, 0.6)), (10, 20), 140.0, (120.0, 130.0), gates),
            "rest-em": MethodRun((outcomes(seed + 10, 0.5), None), (10, 0), 0.0, (125.0, 131.0), ()),
        }
        seeds.append(
            SeedRuns(seed, outcomes(seed + 20, 0.3), (outcomes(seed + 30, 0.3), outcomes(seed + 40, 0.3)), methods)
        )
    return MethodComparison("puzzle", ("rest-mcts", "rest-em"), 2, 110, False, tuple(seeds))


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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--methods", "rest-mcts,sarsa"), "'sarsa'; did you mean 'star'? There are: math-shepherd"),
        (("--methods", "rest-em,rest-em"), "names one twice"),
        (("--policy", "some/model"), "go with PROBLEMS"),
        (("problems.jsonl", "--quick"), "--quick is the puzzle's"),
        (("problems.jsonl",), "give --policy, --test and --budget-tokens"),
    ],
)
def test_bad_arguments_are_one_line(arguments: tuple[str, ...], expected: str) -> None:
    assert expected in str(CliRunner().invoke(app, ["compare", *arguments]).exception)
