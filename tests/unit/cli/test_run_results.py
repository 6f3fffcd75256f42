"""What a report reads of a stored run."""

from pathlib import Path

from restmcts.adapters.sql.database import Database
from restmcts_cli.reports.run_results import answers_beside

NAMES = [("grade-base", "as it came"), ("grade-base", "again")]


def test_answers_of_several_policies_stand_beside_one_another_in_the_order_of_the_problems(workdir: Path) -> None:
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    answered = answers_beside(database, 1, NAMES, 3)
    assert [problem.question for problem in answered] == [f"test question {number}" for number in range(3)]
    for problem in answered:
        assert [answer.policy for answer in problem.answers] == ["as it came", "again"]
        assert len({answer.text for answer in problem.answers}) == 1, "one phase gives one text"
        assert all(answer.verdict in ("right", "wrong", "undecided") for answer in problem.answers)
    assert any(problem.answers[0].text for problem in answered)
    database.close()


def test_a_phase_that_answered_nothing_leaves_nothing_to_show(workdir: Path) -> None:
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    assert answers_beside(database, 1, [*NAMES, ("grade-policy-1", "trained")], 3) == ()
    database.close()
