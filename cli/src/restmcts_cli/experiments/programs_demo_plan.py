"""What `restmcts demo --task small-programs` does: the demo with programs in place of number paths,
whose tests decide.
"""

from dataclasses import replace

from restmcts.domain.runs.spec import RunSpec, written
from restmcts.domain.tasks.small_programs import KIND, LENGTH, MOST_LINES

from restmcts_cli.experiments.demo_plan import SMOKE, DemoSize, demo_spec

# Few demonstrations, learnt until more steps on them teach little: then what self-training adds is
# its own (docs/results.md).
PROGRAMS = DemoSize(
    demonstrations=1000,
    bootstrap=400,
    searched=900,
    test=2000,
    compared=200,
    seed_steps=900,
    value_steps=120,
    test_budgets=(160,),
    difficulty="3-4",
)
PROGRAMS_SMOKE = replace(SMOKE, difficulty="1-2")

TOKENS = 240
_LINE_TOKENS = 2 * LENGTH + 6  # the line, its comment's marks and numbers, and the newline


def programs_demo_spec(seed: int, size: DemoSize) -> RunSpec:
    """Return the run: that of number paths but for the problems, and for what a longer solution
    needs.
    """
    document = written(demo_spec(seed, size))
    document["policy"] = document["puzzles"]["kind"] = KIND
    document["budget"]["tokens"] = TOKENS
    document["generation"] |= {
        "max_step_tokens": _LINE_TOKENS + 2,
        "max_solution_tokens": MOST_LINES * _LINE_TOKENS + 4,
    }
    return RunSpec.model_validate(document)
