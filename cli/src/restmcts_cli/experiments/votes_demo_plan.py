"""What `restmcts demo --truth votes` does: the demo where no answer is known, beside the same run
with true answers.
"""

from dataclasses import replace

from restmcts.domain.runs.spec import RunSpec, written
from restmcts.domain.runs.spec_plan import HELD_OUT
from restmcts.domain.truth.truth_settings import TruthSettings

from restmcts_cli.experiments.demo_plan import DEMO, SMOKE, DemoSize

MAX_FLIP_RATE = 0.1
"""Between 7 %, where the first policy is mostly right, and 20 %, where it is mostly wrong."""
PROMOTES_ALL = 1000.0
"""Standard errors by which a checkpoint may be worse."""

# A first policy that is mostly wrong, and few puzzles: the policy soon learns its own mistakes.
VOTED: DemoSize = replace(DEMO, demonstrations=1000, bootstrap=300, searched=300, test=1000)
VOTED_SMOKE = replace(SMOKE, held_out=40)


def voted(spec: RunSpec) -> RunSpec:
    """Return a demo's run with votes as its truth. All iterations search the same puzzles, so that
    answers can flip. So that what votes do is seen, an answer that one first step alone leads to
    counts too, and every checkpoint is promoted: evaluated on the probe's true answers, worse ones
    would be rejected.
    """
    document = written(spec)
    document |= {
        "truth": {"source": "votes", "min_branches": 1, "max_flip_rate": MAX_FLIP_RATE},
        "probe": HELD_OUT,
        "promotion": {"margin": PROMOTES_ALL},
        "control": False,
        "evaluations": [],
    }
    document["puzzles"] |= {"fresh": False}
    return RunSpec.model_validate(document)


def with_true_answers(spec: RunSpec) -> RunSpec:
    """Return the same run where every answer is known."""
    return spec.model_copy(update={"truth": TruthSettings(), "probe": None})
