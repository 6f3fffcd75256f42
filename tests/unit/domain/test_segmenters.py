"""Where steps end, and what of a text is thought."""

import pytest
from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.requests import SEPARATORS, GenerationSettings
from restmcts.domain.segmenters import SEGMENTERS, outside_thoughts, thought_is_open


@pytest.mark.parametrize(
    ("name", "text", "step"),
    [
        ("newline", "a\n", "a\n"),
        ("newline", "\n\na", None),
        ("blank-line", "a\nb", None),
        ("blank-line", "a\nb\n\n", "a\nb\n\n"),
        ("sentence", "She has 3.5", None),
        ("sentence", "She has 3.", None),
        ("sentence", "She has 3. T", "She has 3."),
        ("sentence", "\n1. First", None),
        ("sentence", "Dr. Lee vs. Mr. Kim", None),
        ("sentence", 'He said "no." Then', 'He said "no."'),
        ("numbered-step", "Step 1: a\nb", None),
        ("numbered-step", "Step 1: a\n\n**Step 2", "Step 1: a\n\n"),
        ("numbered-step", "First\nstep 2", "First\n"),
        ("numbered-step", "One\nStepping on", None),
        ("tokens", "a\n\nb. c", None),
    ],
)
def test_a_step_ends_where_its_name_says(name: str, text: str, step: str | None) -> None:
    end = SEGMENTERS[name].end(text)
    assert (None if end is None else text[:end]) == step


@pytest.mark.parametrize("name", [name for name in SEGMENTERS if name != "tokens"])
def test_no_step_ends_inside_a_thought(name: str) -> None:
    segmenter, thought = SEGMENTERS[name], "<think>One. Two\n\nStep 2: three.\n\nStep 3"
    assert segmenter.end(thought) is None
    assert segmenter.end(thought.removeprefix("<think>"), in_thought=True) is None
    assert segmenter.end(thought.removeprefix("<think>")) is not None
    done = thought + "</think>\n\nStep 1"
    end = segmenter.end(done)
    assert end is not None and done[:end].rstrip() in (thought + "</think>", done)


def test_every_name_can_be_asked_for() -> None:
    for name in ("auto", *SEGMENTERS):
        assert GenerationSettings(step_separator=name).step_separator == name  # type: ignore[arg-type]
    assert set(SEPARATORS) <= set(SEGMENTERS) and SEPARATORS["newline"] == SEGMENTERS["newline"].separator


@pytest.mark.parametrize(
    ("text", "rest", "is_open"),
    [
        ("plain", "plain", False),
        ("<think>a</think>b", "b", False),
        ("a</think>b", "b", False),
        ("a<think>b", "a", True),
        ("<think>a</think>b<think>c</think>d", "bd", False),
        ("a</think>b<think>c", "b", True),
    ],
)
def test_thoughts_are_told_from_the_rest(text: str, rest: str, is_open: bool) -> None:
    assert outside_thoughts(text) == rest
    assert thought_is_open(text) == is_open
    assert thought_is_open("no mark", before=True)


def test_an_answer_inside_a_thought_is_none() -> None:
    assert states_answer("The answer is 4")
    assert not states_answer("<think>The answer is 4</think>\n")
    assert states_answer("<think>The answer is 4</think>\nThe answer is 5")
