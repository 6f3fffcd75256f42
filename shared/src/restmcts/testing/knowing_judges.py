"""A judge that knows the right steps of some problems, to be put behind a `PolicyServer`: its yes
is as sure as a test wants it for right and for wrong steps.
"""

import math
from collections.abc import Callable, Iterable

from restmcts.domain.problems import Problem
from restmcts.testing.policy_servers import END

CONTEXT = 20_000
"""Characters of a server's context that every prompt of a judge fits."""


def knowing_judge(problems: Iterable[Problem], of_right: float, of_wrong: float) -> Callable[[str], dict[str, float]]:
    """Return the log-probabilities of the token after a judge's prompt.

    Args:
        problems: with solutions, whose steps are the right ones.
        of_right: probability of yes where the last step in the prompt is one of them.
        of_wrong: where it is not.
    """
    right = {(problem.question, step.strip()) for problem in problems for step in problem.solution or ()}
    questions = {question for question, _ in right}

    def log_probs(prompt: str) -> dict[str, float]:
        question = max((each for each in questions if each in prompt), key=len, default="")
        shown = prompt.partition(question)[2].partition("Is every step")[0] if question else ""
        lines = [line.strip() for line in shown.splitlines() if line.strip()]
        # Of what it does not know it says something, too.
        is_right = (question, lines[-1]) in right if lines else len(prompt) % 2 == 0
        yes = of_right if is_right else of_wrong
        return {"yes": math.log(yes), "no": math.log1p(-yes), END: -30.0}

    return log_probs
