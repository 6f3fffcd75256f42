"""A report's sentences on searches under one limit of tokens, and on values that are no better than
chance.
"""

from dataclasses import replace

import pytest
from restmcts.domain.stats.estimates import Figure
from restmcts_cli.reports.run_report_data import Report, SearchResult, evaluate_values
from restmcts_cli.reports.run_summary import summarise


def share_of(num_right: int) -> Figure:
    """Return the accuracy on 1,000 problems of which so many are right."""
    return Figure.of([number < num_right for number in range(1000)])


def said(report: Report) -> str:
    return " ".join(summarise(report))


REPORT = Report(
    "a run",
    "restmcts demo",
    0,
    1.0,
    search=(
        SearchResult("greedy", None, 38, 44, share_of(436)),
        SearchResult("best-of-N", 160, 153.2, 181, share_of(578)),
        SearchResult("MCTS*", 160, 151.0, 172, share_of(608)),
    ),
)


@pytest.mark.parametrize(
    ("greedy", "expected"),
    [
        (608, " But greedy, at 60.8 % ± 1.5, is level with MCTS*, and spent 38 tokens."),
        (650, " But greedy, at 65.0 % ± 1.5, is 4.2 points above MCTS*"),
        (600, "MCTS* spent 151 tokens and best-of-N 153."),
    ],
)
def test_summary_says_that_a_cheaper_method_is_as_good(greedy: int, expected: str) -> None:
    cheap = replace(REPORT.search[0], method="greedy", accuracy=share_of(greedy))
    sentence = next(one for one in summarise(replace(REPORT, search=(cheap, *REPORT.search[1:]))) if "limit" in one)
    assert sentence.startswith("Under a limit of 160 tokens a problem, on 1,000 problems, MCTS* is best")
    assert expected in sentence and ("But" in sentence) == ("But" in expected)


def test_of_two_that_come_out_level_the_cheaper_is_named_first() -> None:
    level = tuple(replace(one, accuracy=REPORT.search[1].accuracy) for one in REPORT.search[1:])
    assert "MCTS* and best-of-N come out level at 57.8 %" in said(replace(REPORT, search=level))


def test_summary_says_which_values_are_not_better_than_chance() -> None:
    assert "not better than chance" not in said(REPORT)
    by_chance = evaluate_values("V_1", [0.9, 0.5, 0.4, 0.9, 0.5, 0.4], [0, 1, 2, None, None, None])
    assert "The values of V_1 are not better than chance." in said(replace(REPORT, values=(by_chance,)))
    perfect = evaluate_values("V_1", [0.9] * 20 + [0.1] * 20, [1] * 20 + [None] * 20)
    assert "not better than chance" not in said(replace(REPORT, values=(perfect,)))
