"""What a server writes becomes steps: thoughts stay whole, and what cannot be asked of it is
refused.
"""

import pytest
from restmcts.adapters.models.http_policy.completion import Completion
from restmcts.adapters.models.http_policy.proposer import separator_of
from restmcts.adapters.models.http_policy.writing import Writing
from restmcts.domain.requests import GenerationSettings, ProposeSteps
from restmcts.errors import InputError

SETTINGS = GenerationSettings(max_step_tokens=3, max_solution_tokens=40)


def test_a_thought_of_a_whole_solution_is_one_step() -> None:
    writing = Writing(ProposeSteps(0, (), 1, None, 0), SETTINGS, "\n")
    writing.add(Completion("<think>a\nThe answer is 1\n</think>\nb\nThe answer is 2", 9, None, True))
    assert [step.text for step in writing.sample().steps] == [
        "<think>a\nThe answer is 1\n</think>\n",
        "b\n",
        "The answer is 2",
    ]
    assert writing.ended


def test_a_thought_goes_on_over_calls_that_end_at_its_lines_or_at_a_step_s_limit() -> None:
    writing = Writing(ProposeSteps(0, (), 1, 1, 0), SETTINGS, "\n")
    writing.add(Completion("<think>a", 2, None, None))
    writing.add(Completion("b c d", 3, None, None, cut=True))
    assert not writing.complete and writing.text == "<think>a\nb c d"
    writing.add(Completion("</think>", 1, None, None))
    assert writing.complete
    assert [step.text for step in writing.sample().steps] == ["<think>a\nb c d</think>\n"]
    assert writing.sample().num_tokens == 6


def test_an_earlier_step_may_have_opened_the_thought() -> None:
    split = GenerationSettings(max_step_tokens=3, max_solution_tokens=40, split_thoughts=True)
    writing = Writing(ProposeSteps(0, ("<think>a\n",), 1, 1, 0), split, "\n")
    writing.add(Completion("The answer is 1", 3, None, None))
    assert writing.complete and not writing.ended, "an answer inside a thought ends nothing"


@pytest.mark.parametrize("name", ["sentence", "numbered-step", "tokens"])
def test_steps_that_no_stop_text_ends_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="choose newline or blank-line, or run the model in process"):
        separator_of(GenerationSettings(step_separator=name))  # type: ignore[arg-type]


PROGRAM = ["```python\n", "answer = f(\n    1)\n", "# The answer is 5\n", "```\n"]


def test_code_that_comes_line_by_line_has_logical_lines_as_steps() -> None:
    writing = Writing(ProposeSteps(0, (), 1, 9, 0), GenerationSettings(), "\n", is_code=True)
    for line in "".join(PROGRAM).splitlines():
        assert not writing.complete
        writing.add(Completion(line, 3, None, False))
    assert [step.text for step in writing.sample().steps] == PROGRAM
    assert writing.complete and writing.ended


def test_a_whole_program_at_once_has_the_same_steps() -> None:
    writing = Writing(ProposeSteps(0, (), 1, None, 0), GenerationSettings(), "\n", is_code=True)
    writing.add(Completion("".join(PROGRAM), 30, None, True))
    assert [step.text for step in writing.sample().steps] == PROGRAM
