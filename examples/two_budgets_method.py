"""A self-training method of one's own: it searches every problem twice, the second time only those
that the first left unsolved, under twice the budget; the right traces of both train the policy.

    restmcts selftrain problems.jsonl --policy MODEL --workdir out \
        --plugin two_budgets_method.py --method two-budgets
"""

from dataclasses import replace

from restmcts.domain.runs.methods import METHODS, Method, Models
from restmcts.domain.runs.phases import Phase, SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.search.best_of_n import BestOfNSettings


def iterate(run: SelfTraining, iteration: int, models: Models) -> list[Phase]:
    cheap = SearchPhase(
        name=f"collect-{iteration}",
        iteration=iteration,
        purpose="collect",
        problem_set=run.train_sets[iteration - 1],
        policy=models.policy,
        value=None,
        search=BestOfNSettings(num_samples=64, samples_at_once=1, score=False),
        budget=run.budget,
        generation=run.generation,
    )
    double = replace(run.budget, iterations=2 * (run.budget.iterations or 8))
    dear = replace(cheap, name=f"again-{iteration}", budget=double, follows=(cheap.name,), hint="{question}")
    sources = (cheap.name, dear.name)
    return [
        cheap,
        dear,
        TrainPolicyPhase(f"policy-{iteration}", iteration, models.policy, run.policy_training, sources),
    ]


METHODS.add("two-budgets", Method("samples, and more samples of what was not solved, train the policy", iterate))
