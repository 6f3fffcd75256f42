"""What a report says of the trainings of a run: which took place, and why others did not."""

from restmcts_cli.reports.run_report_data import IterationResult, Report
from restmcts_cli.reports.run_summary import summarise


def said(report: Report) -> str:
    return " ".join(summarise(report))


def test_summary_when_nothing_was_solved() -> None:
    rows = (IterationResult(0), IterationResult(1, 20, 0, 5000))
    assert said(Report("t", "c", 0, 1.0, iterations=rows)) == (
        "No problem was solved in 20 trees, so there was nothing to learn from: nothing was trained."
    )


def test_summary_says_what_was_trained_before_nothing_was_solved() -> None:
    why = {"the policy": "collect-1 solved no problem"}
    rows = (IterationResult(0, num_policy_samples=60), IterationResult(1, 16, 0, 2688, untrained=why))
    assert said(Report("t", "c", 0, 1.0, iterations=rows)) == (
        "No problem was solved in 16 trees, so there was nothing to learn from in them. What was trained: the policy "
        "of iteration 0 on 60 traces. In iteration 1 the policy was not trained: collect-1 solved no problem."
    )


def test_summary_names_the_iteration_that_was_not_trained() -> None:
    why = {"the policy": "no training data"}
    rows = (IterationResult(1, 20, 4, 5000, 4), IterationResult(2, 20, 0, 5000, untrained=why))
    text = said(Report("t", "c", 0, 1.0, iterations=rows))
    assert "In iteration 2 the policy was not trained: no training data." in text
    assert "value model was not" not in text, "a method without one does not miss it"
