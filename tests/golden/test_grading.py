"""Graded answers: what a mathematician says of them, and what the verifier says."""

import json
from collections import Counter
from pathlib import Path

import pytest
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts_cli.commands.learning.grade import grade_line

FOLDER = Path(__file__).parent
MIN_AGREEMENT = 0.97


@pytest.mark.parametrize("name", ["grading.jsonl", "grading_kinds.jsonl", "grading_context.jsonl"])
def test_no_wrong_answer_is_right_and_nearly_all_verdicts_agree(verifier: AnswerVerifier, name: str) -> None:
    verdicts: Counter[tuple[str, str]] = Counter()
    wrong_for_right = []
    for line in (FOLDER / name).read_bytes().splitlines():
        expected, verdict = json.loads(line)["expected"], grade_line(line, verifier)["verdict"]
        verdicts[expected, verdict] += 1
        if verdict == "right" and expected != "right":
            wrong_for_right.append(line.decode())
    agreeing = sum(count for (expected, verdict), count in verdicts.items() if expected == verdict)
    assert wrong_for_right == []
    assert agreeing / verdicts.total() >= MIN_AGREEMENT, verdicts
