"""A task of one's own: rows {"kind": "anagrams", "letters": "tca", "word": "cat"}; a solution ends
with a line "Word: …", and any word of exactly these letters is right.

    restmcts selftrain anagrams.jsonl --policy MODEL --workdir out --plugin anagrams_task.py
"""

from collections.abc import Mapping
from typing import Any

from restmcts.domain.problems import Check, Verdict
from restmcts.domain.tasks.task import TASKS, Judgement, Task, Tools
from restmcts.errors import InputError


class Anagrams(Task):
    def read(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        letters, word = str(row.get("letters", "")), str(row.get("word", ""))
        if sorted(letters) != sorted(word) or not word:
            raise InputError(f'"word" {word!r} is not made of the "letters" {letters!r}')
        question = f"Make a word of the letters {' '.join(letters)}. End with the line `Word: …`."
        return {"question": question, "answer": word, "solution": row.get("solution", [f"Word: {word}"])}

    def ends(self, step: str) -> bool:
        return step.startswith("Word: ")

    def verify(self, check: Check, tools: Tools) -> Judgement:
        last = check.solution.strip().splitlines()[-1:]
        found, wanted = "".join(last).removeprefix("Word: "), check.answer or ""
        shared = sum(min(found.count(letter), wanted.count(letter)) for letter in set(wanted))
        score = shared / max(len(found), len(wanted), 1)
        verdict = Verdict.RIGHT if score == 1.0 and self.ends("".join(last)) else Verdict.WRONG
        return Judgement(verdict, score, "answers", f"{shared} letters of {len(wanted)} are right")


TASKS.add("anagrams", Anagrams())
