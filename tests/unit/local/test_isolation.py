"""What fails in a batch fails alone, with a reason; its neighbours pay no attempt, and a run in one
process always ends.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.state import blocks, runs
from restmcts.adapters.sql.state.trees import TREES
from restmcts.adapters.workers.service import OpenModels
from restmcts.domain.problems import Check, Problem
from restmcts.domain.requests import ProposeSteps, StepsProposed
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.tasks.task import Judgement
from restmcts.errors import InputError, ModelError, RestMctsError, ServerUnavailableError
from restmcts.messages import wire
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts_local.local_run import LocalRun, ModelOptions
from sqlalchemy import select

COLLECT = SearchPhase(
    "collect-1", 1, "collect", "train", "base", "value-0", MctsStarSettings(mode="collect"), Budget(iterations=4)
)
POISON = "a poisonous question"


class PanicError(BaseException):
    """As libraries in Rust raise: no Exception."""


@dataclass(frozen=True)
class Poisoned(RandomModels):
    """A policy that does something to every batch that holds the poison; counts its calls."""

    do: Callable[[StepsProposed], StepsProposed] = lambda answer: answer
    calls: list[int] = field(default_factory=list)

    def propose(self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: Any) -> list[StepsProposed]:
        self.calls.append(len(requests))
        answers = RandomModels.propose(self, questions, requests, settings)
        return [
            self.do(answer) if question == POISON else answer
            for question, answer in zip(questions, answers, strict=True)
        ]


def panic(_: StepsProposed) -> StepsProposed:
    raise PanicError("the regex engine panicked")


def overflow(_: StepsProposed) -> StepsProposed:
    raise OverflowError("int too large")


def refuse(_: StepsProposed) -> StepsProposed:
    raise ModelError("the prompt does not fit")


def written(**changes: Any) -> Callable[[StepsProposed], StepsProposed]:
    """Change every step that the policy writes."""

    def change(answer: StepsProposed) -> StepsProposed:
        samples = [
            replace(sample, steps=tuple(replace(step, **changes) for step in sample.steps)) for sample in answer.samples
        ]
        return replace(answer, samples=tuple(samples))

    return change


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., LocalRun]]:
    """Open a work folder with a run of some problems, of which some are poisonous."""
    opened: list[LocalRun] = []

    def open_run(policy: Any, poisonous: Sequence[int] = (4,), num_problems: int = 9) -> LocalRun:
        local = LocalRun(
            tmp_path / "work", ModelOptions(), opened=OpenModels(lambda _: policy, lambda _: RandomModels())
        )
        opened.append(local)
        problems = [Problem(POISON if n in poisonous else f"question {n}", RIGHT_ANSWER) for n in range(num_problems)]
        with local.database.transaction() as transaction:
            if runs.find_run(transaction, "run") is None:
                run_id = runs.create_run(transaction, "run", "test", 1, {})
                runs.add_problems(transaction, run_id, "train", problems)
                for name, kind in (("base", "policy"), ("value-0", "value")):
                    runs.add_checkpoint(transaction, run_id, name, kind, name, name)
                runs.add_phases(transaction, run_id, [COLLECT])
        return local

    yield open_run
    for local in opened:
        local.__exit__()


def states(local: LocalRun) -> dict[int, tuple[str, str | None]]:
    with local.database.transaction() as transaction:
        rows = transaction.execute(select(TREES.c.problem_id, TREES.c.state, TREES.c.error).order_by(TREES.c.id))
        return {row.problem_id - 1: (row.state, row.error) for row in rows}


def attempts(local: LocalRun) -> set[int]:
    with local.database.transaction() as transaction:
        return set(
            transaction.connection.exec_driver_sql("SELECT attempt FROM requests WHERE state = 'applied'").scalars()
        )


@pytest.mark.parametrize(
    ("do", "reason"),
    [(panic, "the regex engine panicked"), (overflow, "int too large"), (refuse, "does not fit"),
     (written(log_prob=float("nan")), "log-probability of nan"), (written(log_prob=float("inf")), "inf")],
    ids=["panic", "error", "refusal", "nan", "inf"],
)  # fmt: skip
def test_what_fails_alone_fails_its_tree_with_the_reason_and_no_other(run: Any, do: Any, reason: str) -> None:
    local = run(Poisoned(do=do))
    local.run(1)
    found = states(local)
    state, error = found.pop(4)
    assert state == "failed"
    assert reason in str(error)
    assert {state for state, _ in found.values()} == {"labelled"}
    assert attempts(local) == {1}, "neighbours pay no attempt"


def test_people_are_notified_of_the_end_and_of_nothing_else(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTMCTS_NOTIFY_COMMAND", f"cat >> {tmp_path / 'news'}; echo >> {tmp_path / 'news'}")
    local = run(Poisoned(do=panic), poisonous=range(9))
    for _ in range(2):
        with pytest.raises(RestMctsError, match="run run failed"):
            local.run(1, notifies=True)
    (sent,) = map(json.loads, (tmp_path / "news").read_text().splitlines())
    assert (sent["state"], sent["command"]) == ("failed", f"restmcts runs show run --workdir {tmp_path / 'work'}")
    assert "all 9 trees failed" in sent["why"]


def test_several_poisonous_requests_side_by_side_do_not_pass_for_a_broken_model(run: Any) -> None:
    local = run(Poisoned(do=panic), poisonous=(0, 1, 2, 3, 8))
    local.run(1)
    found = states(local)
    assert {n for n, (state, _) in found.items() if state == "failed"} == {0, 1, 2, 3, 8}
    assert attempts(local) == {1}


@pytest.mark.parametrize(
    "text", ["a step with \0 in it\n", "half a \ud800 pair\n", "\udfff\n"], ids=["nul", "high", "low"]
)
def test_text_that_no_database_holds_is_cleaned_at_the_door(run: Any, text: str) -> None:
    local = run(Poisoned(do=written(text=text)))
    local.run(1)
    assert {state for state, _ in states(local).values()} == {"labelled"}
    with local.database.transaction() as transaction:
        steps = list(
            transaction.connection.exec_driver_sql("SELECT step FROM nodes WHERE step LIKE '%\ufffd%'").scalars()
        )
    assert steps
    assert all("\0" not in step and step.encode() for step in steps)


def test_a_model_that_always_fails_ends_its_run_and_is_not_asked_for_every_request_each_time(run: Any) -> None:
    policy = Poisoned(do=panic)
    local = run(policy, poisonous=range(40), num_problems=40)
    with pytest.raises(RestMctsError, match="run run failed: collect-1: all 40 trees failed"):
        local.run(1)
    assert {state for state, _ in states(local).values()} == {"failed"}
    assert all("the regex engine panicked" in str(error) for _, error in states(local).values())
    assert len(policy.calls) < 40 * 5, "as many calls as requests and attempts would be one by one for ever"


def test_one_tree_that_cannot_be_labelled_fails_alone(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    local = run(RandomModels())
    from restmcts.adapters.verification.verifier import AnswerVerifier

    real = AnswerVerifier.judge

    def poisoned(self: AnswerVerifier, checks: Sequence[Check], *rest: Any, **options: Any) -> list[Judgement]:
        if any(check.question == POISON for check in checks):
            raise PanicError("the parser panicked")
        return real(self, checks, *rest, **options)

    monkeypatch.setattr(AnswerVerifier, "judge", poisoned)
    local.run(1)
    found = states(local)
    state, error = found.pop(4)
    assert state == "failed"
    assert "the parser panicked" in str(error)
    assert {state for state, _ in found.values()} == {"labelled"}


def test_a_server_that_is_away_is_no_failed_attempt(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "FIRST_PAUSE_SECONDS", 0.1)
    away = [True, True]

    def answer(answer: StepsProposed) -> StepsProposed:
        if away:
            away.pop()
            raise ServerUnavailableError("the server is down")
        return answer

    local = run(Poisoned(do=answer))
    local.run(1)
    assert {state for state, _ in states(local).values()} == {"labelled"}
    assert attempts(local) == {1}


def test_answers_with_figures_that_are_none_and_answers_without_end_are_refused() -> None:
    proposal = ProposeSteps(0, (), 1, 1, 0)
    answer = RandomModels(silence_rate=0.0).propose_one(proposal)
    with pytest.raises(ModelError, match="at most"):
        wire.dump_response(written(text="x" * (wire.MAX_ANSWER_CHARS + 1))(answer))
    assert wire.load_response("propose", wire.dump_response(answer)) == answer


def test_messages_name_rows_that_a_database_can_hold() -> None:
    from restmcts.messages.routes import parse

    for body in ('{"tree_ids": [9223372036854775808]}', '{"tree_ids": [-1]}'):
        with pytest.raises(InputError):
            parse("search.advance_trees", body)


def test_a_run_whose_checkpoint_cannot_be_loaded_ends_with_one_line(run: Any, tmp_path: Path) -> None:
    local = run(RandomModels())

    def broken(_: str) -> Any:
        raise ModelError("no such folder")

    local.__exit__()
    with (
        LocalRun(tmp_path / "work", ModelOptions(), opened=OpenModels(broken, broken)) as again,
        pytest.raises(RestMctsError, match="no such folder"),
    ):
        again.run(1)
