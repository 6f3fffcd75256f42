"""When rows end steps and solutions, on hand-written tokens."""

import numpy as np
import pytest
from restmcts.domain.requests import Sample
from restmcts.domain.segmenters import CODE_LINES, SEGMENTERS, Segmenter
from restmcts.modeling.decoding.stopping import Continuations, StopRules
from restmcts.modeling.tokenization import TextDecoder
from transformers import PreTrainedTokenizerFast

END = "<eos>"


class Scripted:
    """A decoder whose vocabulary is the given pieces of text; the last one is a special end
    token.
    """

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = [*pieces, END]

    def __len__(self) -> int:
        return len(self.pieces)

    def batch_decode(self, rows: list[list[int]], **_: bool) -> list[str]:
        return ["".join(self.pieces[i] for i in row if self.pieces[i] != END) for row in rows]


def run(
    pieces: list[str],
    *,
    separator: str = "\n",
    segmenter: Segmenter | None = None,
    in_thought: bool = False,
    max_steps: int = 99,
    max_tokens: int = 99,
    max_step_tokens: int = 99,
    keeps_text: bool = False,
) -> tuple[Sample, int]:
    """Return the sample that these pieces make, and how many of them it took."""
    decoder = Scripted(sorted(set(pieces) - {END}))
    rules = StopRules(TextDecoder(decoder), separator, [len(decoder) - 1], len(decoder) + 3, keeps_text=keeps_text)
    if segmenter is not None:
        rules = rules.divided_by(segmenter)
    row = Continuations(rules, np.array([max_steps]), np.array([max_tokens]), max_step_tokens, in_thought=[in_thought])
    for num_read, piece in enumerate(pieces, start=1):
        row.append(np.array([0]), np.array([decoder.pieces.index(piece)]), np.array([-1.0]))
        if row.finished[0]:
            return row.sample(0), num_read
    return row.sample(0), len(pieces)


def steps(sample: Sample) -> list[tuple[str, int, float]]:
    return [(step.text, step.num_tokens, step.log_prob) for step in sample.steps]


def test_a_newline_ends_a_step_and_the_text_is_stripped() -> None:
    sample, _ = run(["  one ", "\n", "two", "\n"])
    assert steps(sample) == [("one\n", 2, -2.0), ("two\n", 2, -2.0)]
    assert sample.num_tokens == 4 and not sample.ended


def test_text_after_a_newline_in_one_token_is_discarded() -> None:
    sample, _ = run(["one", ".\nTw", "o\n"])
    assert steps(sample) == [("one.\n", 2, -2.0), ("o\n", 1, -1.0)]


def test_empty_steps_are_dropped_but_their_tokens_count() -> None:
    sample, _ = run(["\n", "  ", "\n", "one", "\n"], max_steps=1)
    assert steps(sample) == [("one\n", 2, -2.0)]
    assert sample.num_tokens == 5


def test_as_many_steps_as_asked_for() -> None:
    sample, num_read = run(["a", "\n", "b", "\n", "c", "\n"], max_steps=2)
    assert len(sample.steps) == 2 and num_read == 4 and not sample.ended


def test_the_end_token_closes_the_step_and_the_solution() -> None:
    sample, num_read = run(["a", "\n", "b", END, "c"])
    assert steps(sample) == [("a\n", 2, -2.0), ("b\n", 2, -2.0)]
    assert sample.ended and num_read == 4


def test_the_end_token_at_once_gives_an_ended_sample_without_steps() -> None:
    sample, _ = run([END, "a"])
    assert sample == Sample((), 1, True)


def test_a_step_that_states_an_answer_ends_the_solution() -> None:
    sample, num_read = run(["a", "\n", "The answer is 3", "\n", "b", "\n"])
    assert [step.text for step in sample.steps] == ["a\n", "The answer is 3\n"]
    assert sample.ended and num_read == 4


def test_a_long_step_is_cut_and_the_next_one_begins() -> None:
    sample, _ = run(["a", "b", "c", "d", "\n"], max_step_tokens=3)
    assert steps(sample) == [("abc\n", 3, -3.0), ("d\n", 2, -2.0)]


def test_a_solution_out_of_tokens_keeps_what_it_has() -> None:
    sample, num_read = run(["a", "\n", "b", "c", "d"], max_tokens=4)
    assert steps(sample) == [("a\n", 2, -2.0), ("bc\n", 2, -2.0)]
    assert num_read == 4 and not sample.ended


@pytest.mark.parametrize(
    ("separator", "pieces", "expected"),
    [
        ("\n", ["  one ", "\n", "\n", "two", "\n"], [("  one \n", 2), ("\ntwo\n", 3)]),
        ("\n", ["one", ".\n\n", " two", "\n"], [("one.\n\n", 2), (" two\n", 2)]),
        ("\n\n", ["a", "\n", "b", "\n", "\n", "c", END], [("a\nb\n\n", 5), ("c", 2)]),
        ("\n", ["\n", "one", "\n", END], [("\none\n", 3)]),
    ],
)
def test_where_text_is_kept_steps_join_to_exactly_what_was_written(
    separator: str, pieces: list[str], expected: list[tuple[str, int]]
) -> None:
    sample, _ = run(pieces, separator=separator, keeps_text=True)
    assert [(step.text, step.num_tokens) for step in sample.steps] == expected
    assert "".join(step.text for step in sample.steps) == "".join(pieces).removesuffix(END)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["She", " makes", " 1", "0", "8", "00", " a", " day"], [("She makes 10800", 6), (" a day", 2)]),
        (["一", "二", "三", "四", "五", "六"], [("一二三", 3), ("四五六", 3)]),
        (["a", "b", "c", "\n"], [("abc\n", 4)]),
        (["a"] * 19 + ["b"] * 2, [("a" * 19, 19), ("bb", 2)]),
    ],
)
def test_a_long_step_is_cut_behind_a_word_or_number(pieces: list[str], expected: list[tuple[str, int]]) -> None:
    sample, _ = run([*pieces, END], max_step_tokens=3, keeps_text=True)
    *others, last = [(step.text, step.num_tokens) for step in sample.steps]
    assert [*others, (last[0], last[1] - (END not in pieces and sample.steps[-1].text != "abc\n"))] == expected


def test_what_a_solutions_limit_leaves_unfinished_is_no_step() -> None:
    sample, num_read = run(["a", "\n", "She", " makes", " 10"], max_tokens=5, keeps_text=True)
    assert [step.text for step in sample.steps] == ["a\n"]
    assert (sample.num_tokens, num_read, sample.ended) == (5, 5, False)


@pytest.mark.parametrize("pieces", [["a", "\n", "\n", "b", "\n\n"], ["a", "\n\n", "b", "\n", "\n"]])
def test_a_separator_of_two_characters(pieces: list[str]) -> None:
    sample, _ = run(pieces, separator="\n\n")
    assert [step.text for step in sample.steps] == ["a\n\n", "b\n\n"]


def test_more_tokens_than_the_first_buffer_holds() -> None:
    sample, _ = run(["a"] * 100 + ["\n"], max_tokens=200, max_step_tokens=200)
    assert steps(sample) == [("a" * 100 + "\n", 101, -101.0)]


def test_finished_rows_are_passed_over(tokenizer: PreTrainedTokenizerFast) -> None:
    rules = StopRules(TextDecoder(tokenizer), "\n", [tokenizer.eos_token_id], len(tokenizer))
    rows = Continuations(rules, np.array([1, 1]), np.array([9, 9]), 9)
    a, newline = tokenizer.convert_tokens_to_ids(["a", "\n"])
    both = np.array([0, 1])
    rows.append(both, np.array([a, a]), np.zeros(2))
    rows.append(both, np.array([newline, a]), np.zeros(2))
    rows.append(both, np.array([a, newline]), np.zeros(2))
    assert [rows.sample(row).num_tokens for row in (0, 1)] == [2, 3]
    assert [rows.sample(row).steps[0].text for row in (0, 1)] == ["a\n", "aa\n"]


@pytest.mark.parametrize(
    ("name", "pieces", "expected"),
    [
        (
            "sentence",
            ["She has", " 3", ".", "5", " cm", ".", " Then", " 4", "!", END],
            [("She has 3.5 cm.", 6), (" Then 4!", 4)],
        ),
        ("sentence", ["Mr", ".", " Lee", " has", " 2", "\n", "So", " 2", END], [("Mr. Lee has 2", 5), ("\nSo 2", 4)]),
        ("sentence", ["It is", " 3", ".\n\n", "The", " rest", END], [("It is 3.\n\n", 3), ("The rest", 3)]),
        (
            "numbered-step",
            ["Step", " 1", ": a", "\n", "b", "\n", "Step", " 2", ": c", END],
            [("Step 1: a\nb\n", 6), ("Step 2: c", 4)],
        ),
        ("tokens", ["a", "\n", " b", " c", " d", END], [("a\n b", 3), (" c d", 3)]),
    ],
)
def test_named_segmenters_divide_what_was_written_and_lose_none_of_it(
    name: str, pieces: list[str], expected: list[tuple[str, int]]
) -> None:
    limit = 3 if name == "tokens" else 99
    sample, _ = run(pieces, segmenter=SEGMENTERS[name], max_step_tokens=limit, keeps_text=True)
    assert [(step.text, step.num_tokens) for step in sample.steps] == expected
    assert "".join(step.text for step in sample.steps) == "".join(pieces).removesuffix(END)
    assert all(step.log_prob == -step.num_tokens for step in sample.steps), "each token is counted once"


def test_a_step_that_is_seen_from_what_follows_ends_the_row_before_it() -> None:
    sample, num_read = run(
        ["One", ".", " Two", ".", END], segmenter=SEGMENTERS["sentence"], max_steps=1, keeps_text=True
    )
    assert steps(sample) == [("One.", 2, -2.0)]
    assert num_read == 3 and sample.num_tokens == 3, "the token that was read to see it is counted as generated"


THOUGHT = ["<think>", "a", "\n", "The answer is 1", "\n", "b", "</think>", "\n", "c", "\n"]


def test_a_thought_is_one_step_however_long_and_states_no_answer() -> None:
    sample, num_read = run(THOUGHT, max_step_tokens=3, max_steps=2, keeps_text=True)
    assert [step.text for step in sample.steps] == ["".join(THOUGHT[:8]), "c\n"]
    assert num_read == len(THOUGHT) and not sample.ended
    opened, _ = run(THOUGHT[1:], max_step_tokens=3, max_steps=2, keeps_text=True, in_thought=True)
    assert [step.text for step in opened.steps] == ["".join(THOUGHT[1:8]), "c\n"]


def test_a_thought_is_divided_where_it_is_asked_for() -> None:
    sample, _ = run(THOUGHT, segmenter=Segmenter("\n", split_thoughts=True), keeps_text=True)
    assert [step.text for step in sample.steps] == ["<think>a\n", "The answer is 1\n", "b</think>\n", "c\n"]
    assert not sample.ended, "an answer inside a thought ends nothing"


def test_a_step_of_code_is_a_logical_line_and_the_closing_fence_ends_the_program() -> None:
    lines = ["```python\n", "answer = f(\n", "    1)\n", "# The answer is 5\n", "\n", "  x\n", "```\n", "more\n"]
    sample, num_used = run(lines, keeps_text=True, segmenter=CODE_LINES)
    assert [step.text for step in sample.steps] == [
        "```python\n",
        "answer = f(\n    1)\n",
        "# The answer is 5\n",
        "\n  x\n",
        "```\n",
    ]
    assert (sample.ended, num_used) == (True, 7)
