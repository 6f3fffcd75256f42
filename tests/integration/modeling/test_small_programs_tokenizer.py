import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from restmcts.domain.tasks.small_programs import LAST_LINE, LINES, SetSizes, make_small_program_sets
from restmcts.modeling.policy.small_programs_tokenizer import make_small_programs_tokenizer
from transformers import AutoTokenizer

TOKENIZER = make_small_programs_tokenizer()
TEXTS = [
    problem.question + "\n" + "".join(problem.solution or ())
    for problem in make_small_program_sets(random.Random(0), SetSizes(200, 0, 0, 0, 0)).demonstrations
]
NUM_SPECIAL = 3


def encode(text: str) -> list[int]:
    return list(TOKENIZER(text)["input_ids"])


def test_a_line_is_one_token_and_with_its_comment_twelve() -> None:
    assert len(TOKENIZER) < 80
    for line in LINES:
        assert len(encode(line)) == 1
        assert len(encode(f"{line} # [1, 20, 3] -> [4, 5, 6]\n")) == 12
    assert len(encode(f"{LAST_LINE}\n")) == 2


def test_programs_come_back_exactly_and_nothing_is_unknown() -> None:
    for text in TEXTS:
        ids = encode(text)
        assert TOKENIZER.decode(ids) == text
        assert not {TOKENIZER.pad_token_id, TOKENIZER.eos_token_id, TOKENIZER.unk_token_id} & set(ids)


def test_steps_joined_are_their_tokens_joined() -> None:
    for text in TEXTS:
        assert encode(text) == [token for line in text.splitlines(keepends=True) for token in encode(line)]


@given(st.lists(st.integers(NUM_SPECIAL, len(TOKENIZER) - 1), max_size=20))
def test_any_tokens_a_policy_may_write_come_back(ids: list[int]) -> None:
    assert encode(TOKENIZER.decode(ids)) == ids


@pytest.mark.parametrize("text", ["x = x[2:]", "50", "import os", "return sum(x)", "f(1) == 2"])
def test_foreign_text_is_unknown_not_dropped(text: str) -> None:
    assert TOKENIZER.unk_token_id in encode(text)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(TEXTS[0])["input_ids"] == encode(TEXTS[0])
    assert loaded.decode(encode(TEXTS[0])) == TEXTS[0]
