"""What a step says is what its tokens say, so that a solution is checked as it was written."""

import random

from restmcts.domain.tasks.number_paths import SetSizes
from restmcts.domain.tasks.word_problems import make_word_problem_sets
from restmcts.modeling.policy.word_problems_tokenizer import MODEL_MAX_LENGTH, make_word_problems_tokenizer


def test_texts_come_back_as_they_were_and_fit() -> None:
    tokenizer = make_word_problems_tokenizer()
    for problem in make_word_problem_sets(random.Random(0), SetSizes(300, 0, 0, 0, 0)).demonstrations:
        text = f"{problem.question}\n{''.join(problem.solution or ())}"
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert tokenizer.unk_token_id not in ids and len(ids) < MODEL_MAX_LENGTH / 2


def test_a_step_broken_off_anywhere_is_read_back_as_the_same_tokens() -> None:
    tokenizer = make_word_problems_tokenizer()
    ids = tokenizer("so now Ann has 12 + 5 = 17 apples\n")["input_ids"]
    assert len(ids) == 11
    for length in range(1, len(ids)):
        assert tokenizer(tokenizer.decode(ids[:length]))["input_ids"] == ids[:length]
