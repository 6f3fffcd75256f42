import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from restmcts.domain.tasks.number_paths import MOVE_POOL, SetSizes, answer_step, make_problem_sets, move_step
from restmcts.modeling.policy.number_paths_tokenizer import make_number_paths_tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

TOKENIZER = make_number_paths_tokenizer()
PROBLEMS = make_problem_sets(random.Random(0), SetSizes(200, 1, 50, 50, 50)).demonstrations
ALL_STEPS = [answer_step(number) for number in range(50)] + [
    move_step(number, move) for number in range(50) for move in MOVE_POOL if move.apply(number) is not None
]
NUM_SPECIAL = 3


def encode(text: str) -> list[int]:
    return TOKENIZER(text)["input_ids"]


def test_sizes_of_vocabulary_prompt_and_lines() -> None:
    assert len(TOKENIZER) < 70
    assert len(encode("Start: 7  Target: 31  Moves: +3 -5 *2\n")) == 9
    assert len(encode("7 * 2 = 14\n")) == 5
    assert len(encode("The answer is 31\n")) == 3


def test_nothing_is_added_or_unknown() -> None:
    for problem in PROBLEMS:
        ids = encode(problem.question + "\n" + "".join(problem.solution or ()))
        assert not {TOKENIZER.pad_token_id, TOKENIZER.eos_token_id, TOKENIZER.unk_token_id} & set(ids)


def test_whole_texts_come_back_exactly() -> None:
    for problem in PROBLEMS:
        text = problem.question + "\n" + "".join(problem.solution or ())
        assert TOKENIZER.decode(encode(text)) == text


def test_every_step_comes_back_exactly() -> None:
    assert len(ALL_STEPS) > 200
    assert {step: back for step in ALL_STEPS if (back := TOKENIZER.decode(encode(step))) != step} == {}


def test_a_move_is_one_token_in_prompt_and_step() -> None:
    assert encode("Start: 7  Target: 31  Moves: *2\n")[5] == encode("7 * 2 = 14\n")[1]


def test_steps_joined_are_their_tokens_joined() -> None:
    for problem in PROBLEMS:
        parts = [problem.question + "\n", *(problem.solution or ())]
        assert encode("".join(parts)) == [token for part in parts for token in encode(part)]


def test_offsets_point_at_the_text() -> None:
    for problem in PROBLEMS:
        text = problem.question + "\n" + "".join(problem.solution or ())
        encoded = TOKENIZER(text, return_offsets_mapping=True)
        spans = [text[start:end] for start, end in encoded["offset_mapping"]]
        assert [span.replace(" ", "") for span in spans] == [
            token.replace(" ", "") for token in TOKENIZER.convert_ids_to_tokens(encoded["input_ids"])
        ]
        newlines = [start for start, end in encoded["offset_mapping"] if text[start:end] == "\n"]
        assert newlines == [place for place, character in enumerate(text) if character == "\n"]


@given(st.lists(st.integers(NUM_SPECIAL, len(TOKENIZER) - 1), max_size=20))
def test_any_tokens_a_policy_may_write_come_back(ids: list[int]) -> None:
    assert encode(TOKENIZER.decode(ids)) == ids


def test_special_tokens_are_left_out_when_asked() -> None:
    ids = [*encode("The answer is 3\n"), TOKENIZER.eos_token_id, TOKENIZER.pad_token_id]
    assert TOKENIZER.decode(ids, skip_special_tokens=True) == "The answer is 3\n"


@pytest.mark.parametrize("text", ["7 / 2 = 3", "The answer", "50", "<script>"])
def test_foreign_text_is_unknown_not_dropped(text: str) -> None:
    assert TOKENIZER.unk_token_id in encode(text)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    text = PROBLEMS[0].question + "\n" + "".join(PROBLEMS[0].solution or ())
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), PreTrainedTokenizerFast.from_pretrained(tmp_path)):
        assert loaded(text)["input_ids"] == encode(text)
        assert loaded.decode(encode(text)) == text
        assert (loaded.pad_token_id, loaded.eos_token_id) == (TOKENIZER.pad_token_id, TOKENIZER.eos_token_id)


def test_batches_are_padded() -> None:
    batch = TOKENIZER(["7 * 2 = 14\n", "The answer is 31\n"], padding=True)
    assert batch["attention_mask"] == [[1] * 5, [1, 1, 1, 0, 0]]
    assert "token_type_ids" not in batch
